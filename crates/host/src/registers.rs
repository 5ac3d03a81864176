//! The upper halves of the processor's vector registers.

/// Clears them, on a thread that is to run guests.
///
/// A thread begins with the registers of the one that has started it. If that one has left numbers of
/// 256 bits in them (hand-written code does, compilers clear them), each of the older instructions for 128
/// bits has to keep the upper halves as they are, and wasmtime's compiler mixes these with newer ones,
/// which clear them. Measured on a Xeon (Sapphire Rapids): a prediction takes 1,450 ms in the place of 21.
pub(crate) fn clear_upper_halves() {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx") {
        // SAFETY: the processor has the instruction, and compiled code expects nothing in the upper halves
        // from one function to the next.
        unsafe { std::arch::x86_64::_mm256_zeroupper() }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::arch::asm;

    use super::*;

    /// Whether any upper half is in use, as the processor says.
    fn in_use() -> bool {
        const UPPER_HALVES: u32 = 1 << 2;
        let states: u32;
        // SAFETY: the test has seen that the processor has this register; reading it changes nothing.
        unsafe { asm!("xgetbv", in("ecx") 1, out("eax") states, out("edx") _) };
        states & UPPER_HALVES != 0
    }

    #[test]
    fn what_a_thread_inherits_is_cleared() {
        if !std::is_x86_feature_detected!("avx") {
            // There are no upper halves.
            return clear_upper_halves();
        }
        let tells = std::arch::x86_64::__cpuid_count(0xd, 1).eax & (1 << 2) != 0;
        assert!(tells, "this processor can't tell whether they are in use");
        // SAFETY: the lower half is given up; nothing is expected in the upper one.
        unsafe { asm!("vpcmpeqd ymm1, ymm1, ymm1", out("xmm1") _) };
        let dirty = in_use();
        clear_upper_halves();
        assert_eq!((dirty, in_use()), (true, false));
    }
}
