//! The linear memory of instances: its limit, and the most that any of them had.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmtime::{ResourceLimiter, Result};

use crate::log::LogSink;

/// The memory of one instance.
pub(crate) struct InstanceMemory {
    limit: Option<Limit>,
    /// The most that any instance of the server had, in bytes.
    peak: Arc<AtomicUsize>,
}

struct Limit {
    bytes: usize,
    instance: u64,
    log: LogSink,
    /// True once a refusal was logged: an allocator may ask again for less.
    is_logged: bool,
}

impl InstanceMemory {
    /// For a guest that may have as much as it asks for, and that nobody measures.
    pub(crate) fn unlimited() -> Self {
        Self { limit: None, peak: Arc::default() }
    }

    /// For the instance with this number. `peak` is that of all instances.
    pub(crate) fn new(
        limit: Option<usize>,
        instance: u64,
        log: LogSink,
        peak: Arc<AtomicUsize>,
    ) -> Self {
        let limit = limit.map(|bytes| Limit { bytes, instance, log, is_logged: false });
        Self { limit, peak }
    }
}

impl ResourceLimiter for InstanceMemory {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> Result<bool> {
        match &mut self.limit {
            Some(Limit { bytes, instance, log, is_logged }) if desired > *bytes => {
                if !*is_logged {
                    *is_logged = true;
                    log.host(format_args!(
                        "instance {instance} may not have {desired} bytes of memory: the limit is \
                         {bytes}"
                    ));
                }
                Ok(false)
            }
            _ => {
                self.peak.fetch_max(desired, Ordering::Relaxed);
                Ok(true)
            }
        }
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        // The engine limits tables: `engine::serving_engine`.
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn memory_over_the_limit_is_refused_and_logged_once() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let taken = lines.clone();
        let log = LogSink::new(move |line| taken.lock().unwrap().push(line.to_string()));
        let peak = Arc::new(AtomicUsize::new(0));
        let mut memory = InstanceMemory::new(Some(2 << 16), 7, log, peak.clone());
        let mut grow = |desired| memory.memory_growing(0, desired, None).unwrap();
        assert!(grow(1 << 16));
        assert!(!grow(3 << 16));
        assert!(grow(2 << 16));
        assert!(!grow(4 << 16));
        assert_eq!(peak.load(Ordering::Relaxed), 2 << 16);
        assert_eq!(
            *lines.lock().unwrap(),
            ["host: instance 7 may not have 196608 bytes of memory: the limit is 131072"]
        );
    }

    #[test]
    fn memory_without_limit_is_measured() {
        let peak = Arc::new(AtomicUsize::new(5 << 16));
        let mut memory = InstanceMemory::new(None, 1, LogSink::new(|_| {}), peak.clone());
        assert!(memory.memory_growing(0, 1 << 16, None).unwrap());
        assert_eq!(peak.load(Ordering::Relaxed), 5 << 16, "another instance had more");
        assert!(memory.memory_growing(1 << 16, 1 << 32, None).unwrap());
        assert_eq!(peak.load(Ordering::Relaxed), 1 << 32);
    }
}
