//! The upper halves of the processor's vector registers.

/// Clears them, on a thread that is about to run guests.
///
/// A thread begins with the registers of the thread that started it. Where those hold 256-bit values
/// (compilers clear them, hand-written code does not always), each older 128-bit instruction has to
/// preserve the upper halves. wasmtime's compiler mixes older instructions with newer ones, and
/// predictions become many times slower: docs/architecture.md.
pub(crate) fn clear_upper_halves() {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has the instruction, and compiled code keeps nothing in the upper halves
        // across a call.
        unsafe { std::arch::x86_64::_mm256_zeroupper() }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::arch::asm;

    use super::*;

    /// True if the processor reports any upper half as in use.
    fn in_use() -> bool {
        const UPPER_HALVES: u32 = 1 << 2;
        let states: u32;
        // SAFETY: the test has checked that the processor has this register; reading it changes nothing.
        unsafe { asm!("xgetbv", in("ecx") 1, out("eax") states, out("edx") _) };
        states & UPPER_HALVES != 0
    }

    #[test]
    fn dirty_upper_halves_are_cleared() {
        if !std::is_x86_feature_detected!("avx") {
            // There are no upper halves.
            return clear_upper_halves();
        }
        let reports = std::arch::x86_64::__cpuid_count(0xd, 1).eax & (1 << 2) != 0;
        assert!(reports, "this processor does not report which halves are in use");
        // SAFETY: the lower half is declared as overwritten; nothing is kept in the upper one.
        unsafe { asm!("vpcmpeqd ymm1, ymm1, ymm1", out("xmm1") _) };
        let dirty = in_use();
        clear_upper_halves();
        assert_eq!((dirty, in_use()), (true, false));
    }
}
