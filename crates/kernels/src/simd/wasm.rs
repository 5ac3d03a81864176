//! The instructions of WebAssembly: simd128, and relaxed-simd where the target has it.
#![allow(
    clippy::should_implement_trait,
    reason = "methods read in the order of the instructions, mul_add among them"
)]

use std::arch::wasm32::*;

use super::cranelift::volatile_load;
use super::rounding::ROUNDING;

/// Returns bytes from other places; 0 where the index is negative.
///
/// The indices come from memory, or LLVM would turn the swizzle into a shuffle (see `cranelift.rs`).
#[inline(always)]
fn swizzle(bytes: v128, indices: &'static v128) -> v128 {
    let indices = volatile_load(indices);
    #[cfg(target_feature = "relaxed-simd")]
    return i8x16_relaxed_swizzle(bytes, indices);
    #[cfg(not(target_feature = "relaxed-simd"))]
    i8x16_swizzle(bytes, indices)
}

/// Four floats.
#[derive(Clone, Copy)]
pub struct F32x4(v128);
/// Four integers of 32 bits.
#[derive(Clone, Copy)]
pub struct I32x4(v128);
/// Eight integers of 16 bits.
#[derive(Clone, Copy)]
pub struct I16x8(v128);
/// Sixteen integers of 8 bits.
#[derive(Clone, Copy)]
pub struct I8x16(v128);

impl F32x4 {
    /// Returns a value in all lanes.
    #[inline(always)]
    pub fn splat(value: f32) -> F32x4 {
        F32x4(f32x4_splat(value))
    }

    /// Loads four values.
    #[inline(always)]
    pub fn load(from: &[f32; 4]) -> F32x4 {
        // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
        F32x4(unsafe { v128_load(from.as_ptr().cast()) })
    }

    /// Stores four values.
    #[inline(always)]
    pub fn store(self, to: &mut [f32; 4]) {
        // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
    }

    /// Adds lane by lane.
    #[inline(always)]
    pub fn add(self, other: F32x4) -> F32x4 {
        F32x4(f32x4_add(self.0, other.0))
    }

    /// Multiplies lane by lane.
    #[inline(always)]
    pub fn mul(self, other: F32x4) -> F32x4 {
        F32x4(f32x4_mul(self.0, other.0))
    }

    /// Returns `self * factor + sum`.
    #[inline(always)]
    pub fn mul_add(self, factor: F32x4, sum: F32x4) -> F32x4 {
        #[cfg(target_feature = "relaxed-simd")]
        return F32x4(f32x4_relaxed_madd(self.0, factor.0, sum.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        F32x4(f32x4_add(f32x4_mul(self.0, factor.0), sum.0))
    }

    /// Returns the larger of each two lanes: one instruction, unlike the maximum that keeps NaN.
    #[inline(always)]
    pub fn max(self, other: F32x4) -> F32x4 {
        #[cfg(target_feature = "relaxed-simd")]
        return F32x4(f32x4_relaxed_max(self.0, other.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        F32x4(f32x4_pmax(self.0, other.0))
    }

    /// Returns the smaller of each two lanes.
    #[inline(always)]
    pub fn min(self, other: F32x4) -> F32x4 {
        #[cfg(target_feature = "relaxed-simd")]
        return F32x4(f32x4_relaxed_min(self.0, other.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        F32x4(f32x4_pmin(self.0, other.0))
    }

    /// Returns one of the lanes in all of them.
    #[inline(always)]
    pub fn splat_lane<const LANE: usize>(self) -> F32x4 {
        F32x4(match LANE {
            0 => i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0),
            1 => i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0),
            2 => i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0),
            _ => i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0),
        })
    }

    /// Returns the absolute values.
    #[inline(always)]
    pub fn abs(self) -> F32x4 {
        F32x4(f32x4_abs(self.0))
    }

    /// Divides lane by lane.
    #[inline(always)]
    pub fn div(self, other: F32x4) -> F32x4 {
        F32x4(f32x4_div(self.0, other.0))
    }

    /// Returns the largest lane of each of four vectors.
    #[inline(always)]
    pub fn max_of_each([a, b, c, d]: [F32x4; 4]) -> F32x4 {
        let halves = |x: F32x4, y: F32x4| {
            let low = F32x4(i32x4_shuffle::<0, 4, 1, 5>(x.0, y.0));
            low.max(F32x4(i32x4_shuffle::<2, 6, 3, 7>(x.0, y.0)))
        };
        let (x, y) = (halves(a, b), halves(c, d));
        let low = F32x4(i32x4_shuffle::<0, 1, 4, 5>(x.0, y.0));
        low.max(F32x4(i32x4_shuffle::<2, 3, 6, 7>(x.0, y.0)))
    }

    /// Returns the nearest integers; one far from 0 where 32 bits are too few.
    #[inline(always)]
    pub fn nearest(self) -> I32x4 {
        let nearest = f32x4_nearest(self.0);
        #[cfg(target_feature = "relaxed-simd")]
        return I32x4(i32x4_relaxed_trunc_f32x4(nearest));
        #[cfg(not(target_feature = "relaxed-simd"))]
        I32x4(i32x4_trunc_sat_f32x4(nearest))
    }

    /// Returns the lanes.
    #[inline(always)]
    pub fn to_array(self) -> [f32; 4] {
        let mut lanes = [0.0; 4];
        self.store(&mut lanes);
        lanes
    }
}

impl I32x4 {
    /// Four zeros.
    pub const ZERO: I32x4 = I32x4(i32x4(0, 0, 0, 0));

    /// Returns a value in all lanes.
    #[inline(always)]
    pub fn splat(value: i32) -> I32x4 {
        I32x4(i32x4_splat(value))
    }

    /// Divides by a power of two and rounds down.
    #[inline(always)]
    pub fn shift_right<const BITS: u32>(self) -> I32x4 {
        I32x4(i32x4_shr(self.0, BITS))
    }

    /// Adds lane by lane, wrapping.
    #[inline(always)]
    pub fn add(self, other: I32x4) -> I32x4 {
        I32x4(i32x4_add(self.0, other.0))
    }

    /// Subtracts lane by lane, wrapping.
    #[inline(always)]
    pub fn sub(self, other: I32x4) -> I32x4 {
        I32x4(i32x4_sub(self.0, other.0))
    }

    /// Multiplies lane by lane, wrapping.
    #[inline(always)]
    pub fn mul(self, other: I32x4) -> I32x4 {
        I32x4(i32x4_mul(self.0, other.0))
    }

    /// Combines all bits by or.
    #[inline(always)]
    pub fn or(self, other: I32x4) -> I32x4 {
        I32x4(v128_or(self.0, other.0))
    }

    /// Returns true if a lane is negative.
    #[inline(always)]
    pub fn any_negative(self) -> bool {
        i32x4_bitmask(self.0) != 0
    }

    /// Returns the lanes.
    #[inline(always)]
    pub fn to_array(self) -> [i32; 4] {
        [
            i32x4_extract_lane::<0>(self.0),
            i32x4_extract_lane::<1>(self.0),
            i32x4_extract_lane::<2>(self.0),
            i32x4_extract_lane::<3>(self.0),
        ]
    }

    /// Returns the nearest floats.
    #[inline(always)]
    pub fn to_f32(self) -> F32x4 {
        F32x4(f32x4_convert_i32x4(self.0))
    }
}

impl I16x8 {
    /// Returns a value in all lanes.
    #[inline(always)]
    pub fn splat(value: i16) -> I16x8 {
        I16x8(i16x8_splat(value))
    }

    /// Loads eight bytes as integers of 16 bits.
    #[inline(always)]
    pub fn widen(from: &[u8; 8]) -> I16x8 {
        // SAFETY: the reference is to 8 readable bytes; the instruction needs no alignment.
        I16x8(unsafe { i16x8_load_extend_u8x8(from.as_ptr()) })
    }

    /// Loads two pixels of red, green and blue, each colour of one beside that of the other. The last
    /// two lanes have no meaning.
    #[inline(always)]
    pub fn colours(from: &[u8; 8]) -> I16x8 {
        // Of each lane the lower byte is one of these, the higher one is 0.
        static INDICES: v128 = i8x16(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, 6, -1, 7, -1);
        // SAFETY: the reference is to 8 readable bytes; the instruction needs no alignment.
        I16x8(swizzle(unsafe { v128_load64_zero(from.as_ptr().cast()) }, &INDICES))
    }

    /// Multiplies lane by lane, wrapping.
    #[inline(always)]
    pub fn mul(self, other: I16x8) -> I16x8 {
        I16x8(i16x8_mul(self.0, other.0))
    }

    /// Loads eight values.
    #[inline(always)]
    pub fn load(from: &[i16; 8]) -> I16x8 {
        // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
        I16x8(unsafe { v128_load(from.as_ptr().cast()) })
    }

    /// Stores eight values.
    #[inline(always)]
    pub fn store(self, to: &mut [i16; 8]) {
        // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
    }

    /// Multiplies eight floats by a factor and rounds to the nearest integers, which must fit 16 bits.
    #[inline(always)]
    pub fn quantise(low: F32x4, high: F32x4, factor: F32x4) -> I16x8 {
        I16x8::quantise_around(low, high, factor, F32x4::splat(0.0))
    }

    /// Quantises and adds the integer `zero`.
    #[inline(always)]
    fn quantise_around(low: F32x4, high: F32x4, factor: F32x4, zero: F32x4) -> I16x8 {
        let magic = F32x4::splat(ROUNDING);
        let start = magic.add(zero);
        let integer = |value: F32x4| i32x4_sub(value.mul_add(factor, start).0, magic.0);
        I16x8(i16x8_narrow_i32x4(integer(low), integer(high)))
    }

    /// Adds lane by lane, wrapping.
    #[inline(always)]
    pub fn add(self, other: I16x8) -> I16x8 {
        I16x8(i16x8_add(self.0, other.0))
    }

    /// Adds each pair of lanes.
    #[inline(always)]
    pub fn pairwise_add(self) -> I32x4 {
        I32x4(i32x4_extadd_pairwise_i16x8(self.0))
    }

    /// Multiplies by fractions, of which `i16::MIN` stands for −1, and rounds to the nearest integer.
    #[inline(always)]
    pub fn mul_q15_round(self, fractions: I16x8) -> I16x8 {
        #[cfg(target_feature = "relaxed-simd")]
        return I16x8(i16x8_relaxed_q15mulr(self.0, fractions.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        I16x8(i16x8_q15mulr_sat(self.0, fractions.0))
    }

    /// Returns the larger of each two lanes.
    #[inline(always)]
    pub fn max(self, other: I16x8) -> I16x8 {
        I16x8(i16x8_max(self.0, other.0))
    }

    /// Returns the smaller of each two lanes.
    #[inline(always)]
    pub fn min(self, other: I16x8) -> I16x8 {
        I16x8(i16x8_min(self.0, other.0))
    }

    /// Truncates eight floats between 0 and `i16::MAX` to integers.
    #[inline(always)]
    pub fn truncate(low: F32x4, high: F32x4) -> I16x8 {
        #[cfg(target_feature = "relaxed-simd")]
        let integer = |value: F32x4| i32x4_relaxed_trunc_f32x4(value.0);
        #[cfg(not(target_feature = "relaxed-simd"))]
        let integer = |value: F32x4| i32x4_trunc_sat_f32x4(value.0);
        I16x8(i16x8_narrow_i32x4(integer(low), integer(high)))
    }

    /// Returns the lanes as floats.
    #[inline(always)]
    pub fn to_f32(self) -> [F32x4; 2] {
        let (low, high) = (i32x4_extend_low_i16x8(self.0), i32x4_extend_high_i16x8(self.0));
        [low, high].map(|four| F32x4(f32x4_convert_i32x4(four)))
    }

    /// Returns the pair of lanes `2 * PAIR` and `2 * PAIR + 1`, four times.
    #[inline(always)]
    pub fn splat_pair<const PAIR: usize>(self) -> I16x8 {
        I16x8(match PAIR {
            0 => i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0),
            1 => i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0),
            2 => i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0),
            _ => i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0),
        })
    }

    /// Multiplies lane by lane and adds each pair of products.
    #[inline(always)]
    pub fn dot(self, other: I16x8) -> I32x4 {
        I32x4(i32x4_dot_i16x8(self.0, other.0))
    }
}

impl I8x16 {
    /// Loads sixteen values.
    #[inline(always)]
    pub fn load(from: &[i8; 16]) -> I8x16 {
        // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
        I8x16(unsafe { v128_load(from.as_ptr().cast()) })
    }

    /// Stores sixteen values.
    #[inline(always)]
    pub fn store(self, to: &mut [i8; 16]) {
        // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
    }

    /// Multiplies sixteen floats by a factor, rounds to the nearest integers and adds the integer
    /// `zero`. The sums must fit 8 bits.
    #[inline(always)]
    pub fn quantise([a, b, c, d]: [F32x4; 4], factor: F32x4, zero: F32x4) -> I8x16 {
        let low = I16x8::quantise_around(a, b, factor, zero);
        let high = I16x8::quantise_around(c, d, factor, zero);
        I8x16(i8x16_narrow_i16x8(low.0, high.0))
    }

    /// Stores the first three of four integers each, which must fit a byte. The last four bytes have no
    /// meaning.
    #[inline(always)]
    pub fn store_colours([a, b, c, d]: [I32x4; 4], to: &mut [u8; 16]) {
        static INDICES: v128 = i8x16(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
        let (low, high) = (i16x8_narrow_i32x4(a.0, b.0), i16x8_narrow_i32x4(c.0, d.0));
        let colours = swizzle(u8x16_narrow_i16x8(low, high), &INDICES);
        // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
        unsafe { v128_store(to.as_mut_ptr().cast(), colours) }
    }

    /// Narrows sixteen integers, which must fit 8 bits.
    #[inline(always)]
    pub fn narrow(low: I16x8, high: I16x8) -> I8x16 {
        I8x16(i8x16_narrow_i16x8(low.0, high.0))
    }

    /// Returns each four neighbouring lanes in a vector of their own, four times.
    #[inline(always)]
    pub fn splat_quads(self) -> [I8x16; 4] {
        [
            I8x16(i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0)),
            I8x16(i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0)),
            I8x16(i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0)),
            I8x16(i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0)),
        ]
    }

    /// Multiplies lane by lane and adds each pair of products. The other vector's lanes must not be
    /// negative.
    #[inline(always)]
    pub fn dot(self, unsigned: I8x16) -> I16x8 {
        #[cfg(target_feature = "relaxed-simd")]
        return I16x8(i16x8_relaxed_dot_i8x16_i7x16(self.0, unsigned.0));
        #[cfg(not(target_feature = "relaxed-simd"))]
        {
            let low = i16x8_extmul_low_i8x16(self.0, unsigned.0);
            let high = i16x8_extmul_high_i8x16(self.0, unsigned.0);
            let even = i16x8_shuffle::<0, 2, 4, 6, 8, 10, 12, 14>(low, high);
            let odd = i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(low, high);
            I16x8(i16x8_add(even, odd))
        }
    }
}
