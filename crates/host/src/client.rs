//! A client with which commands and tests call a server that they have started, and the wait for its first
//! answer.

use std::time::{Duration, Instant};

/// The reason why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Its process ended.
    #[error("the server ended: {0}")]
    Ended(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    TooLate(Duration),
}

/// Returns a client whose requests fail after a time. Every status is an answer, and every method is allowed.
pub fn agent(timeout: Duration) -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_global(Some(timeout))
        .build()
        .into()
}

/// Waits for a server's first answer, asking anew after each interval.
///
/// `ended` returns the reason if the server's process has ended.
///
/// # Errors
///
/// Every [`NoAnswer`].
pub fn first_answer(
    within: Duration,
    interval: Duration,
    mut answers: impl FnMut() -> bool,
    mut ended: impl FnMut() -> Option<String>,
) -> Result<(), NoAnswer> {
    let start = Instant::now();
    while !answers() {
        if let Some(reason) = ended() {
            return Err(NoAnswer::Ended(reason));
        }
        if start.elapsed() > within {
            return Err(NoAnswer::TooLate(within));
        }
        std::thread::sleep(interval);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn first_answer_is_waited_for() {
        let mut asked = 0;
        let answers = || {
            asked += 1;
            asked == 3
        };
        assert_eq!(first_answer(Duration::from_secs(60), SHORT, answers, || None), Ok(()));
        assert_eq!(asked, 3);
    }

    #[test]
    fn wait_ends_with_the_server_and_with_its_time() {
        let ended = || Some("exit status: 1".to_owned());
        let error = first_answer(Duration::from_secs(60), SHORT, || false, ended);
        assert_eq!(error, Err(NoAnswer::Ended("exit status: 1".to_owned())));
        assert_eq!(first_answer(SHORT, SHORT, || false, || None), Err(NoAnswer::TooLate(SHORT)));
    }
}
