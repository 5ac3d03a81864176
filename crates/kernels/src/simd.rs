//! Vectors of 128 bits: WebAssembly's, and elsewhere arrays that do the same, lane by lane.
//!
//! The kernels are written once on top of these, so that the native tests run the very code that
//! runs in the sandbox. With the target feature `relaxed-simd` a multiplication and an addition
//! are one instruction.

pub use lanes::{F32x4, I8x16, I16x8, I32x4};

impl F32x4 {
    /// Two of them from eight numbers.
    #[inline(always)]
    pub fn load_two(from: &[f32; 8]) -> [F32x4; 2] {
        let [a, b, c, d, e, f, g, h] = *from;
        [F32x4::load(&[a, b, c, d]), F32x4::load(&[e, f, g, h])]
    }

    /// Four of them from sixteen numbers.
    #[inline(always)]
    pub fn load_four(from: &[f32; 16]) -> [F32x4; 4] {
        let (eights, _) = from.as_chunks::<8>();
        let ([a, b], [c, d]) = (F32x4::load_two(&eights[0]), F32x4::load_two(&eights[1]));
        [a, b, c, d]
    }

    /// Each lane four times.
    #[inline(always)]
    pub fn lanes(self) -> [F32x4; 4] {
        [self.lane::<0>(), self.lane::<1>(), self.lane::<2>(), self.lane::<3>()]
    }

    /// The nearest integers of numbers between −2²² and 2²².
    #[inline(always)]
    pub fn round(self) -> F32x4 {
        self.add(F32x4::splat(ROUNDING)).add(F32x4::splat(-ROUNDING))
    }

    /// Two of them to eight numbers.
    #[inline(always)]
    pub fn store_two(two: [F32x4; 2], to: &mut [f32; 8]) {
        let (fours, _) = to.as_chunks_mut::<4>();
        for (value, four) in two.into_iter().zip(fours) {
            value.store(four);
        }
    }
}

/// Has these computed before anything that follows is loaded.
///
/// wasmtime's compiler puts off what has no effect to where its result is needed, but not loads: a
/// long calculation first loads all that it reads, which is more than there are registers. What a
/// branch could change has to be there before it; this one is never taken.
#[inline(always)]
pub(super) fn settle<T: Copy, const COUNT: usize>(values: &mut [T; COUNT]) {
    static NEVER: u32 = 0;
    // SAFETY: a static can be read at any time.
    if unsafe { std::ptr::read_volatile(&raw const NEVER) } != 0 {
        *values = std::hint::black_box(*values);
    }
}

impl I16x8 {
    /// Each pair of lanes four times, to memory.
    #[inline(always)]
    pub fn store_pairs(self, to: &mut [[i16; 8]; 4]) {
        let pairs = [self.pair::<0>(), self.pair::<1>(), self.pair::<2>(), self.pair::<3>()];
        for (pair, to) in pairs.into_iter().zip(to) {
            pair.store(to);
        }
    }
}

impl I8x16 {
    /// Each four neighbouring lanes four times, to memory.
    #[inline(always)]
    pub fn store_quads(self, to: &mut [[i8; 16]; 4]) {
        for (quad, to) in self.quads().into_iter().zip(to) {
            quad.store(to);
        }
    }
}

impl I32x4 {
    /// Keeps them in memory. They are computed before anything that follows is loaded (see
    /// [`settle`]).
    #[inline(always)]
    pub fn keep(self, place: &mut I32x4) {
        // SAFETY: a reference can be written to.
        unsafe { std::ptr::write_volatile(place, self) }
    }

    /// What was kept.
    #[inline(always)]
    pub fn kept(place: &I32x4) -> I32x4 {
        // SAFETY: a reference can be read from.
        unsafe { std::ptr::read_volatile(place) }
    }
}

/// The same number, of which the compiler knows nothing.
///
/// In a loop it takes addresses apart, into what changes and what doesn't, and puts each together
/// where it is needed; an address that it doesn't see through stays one, and what is added to it is a
/// part of the instruction. It sees through additions, hence the exclusive or.
#[inline(always)]
pub(super) fn unknown(number: usize) -> usize {
    static NOTHING: usize = 0;
    // SAFETY: a static can be read at any time.
    number ^ unsafe { std::ptr::read_volatile(&raw const NOTHING) }
}

/// 1.5 · 2²³: added to a number between −2²² and 2²², it leaves the nearest integer in the lowest
/// bits of the sum.
const ROUNDING: f32 = 12_582_912.0;

#[cfg(target_family = "wasm")]
mod lanes {
    use std::arch::wasm32::*;

    use super::ROUNDING;

    /// Bytes from other places; from none for a negative one.
    ///
    /// Were the places known to it, rustc would make a shuffle of the swizzle, which names a second vector
    /// even where nothing of it is taken, and takes three micro-operations in the place of one.
    #[inline(always)]
    fn swizzle(bytes: v128, places: &'static v128) -> v128 {
        // SAFETY: a static can be read at any time.
        let places = unsafe { std::ptr::read_volatile(places) };
        #[cfg(target_feature = "relaxed-simd")]
        return i8x16_relaxed_swizzle(bytes, places);
        #[cfg(not(target_feature = "relaxed-simd"))]
        i8x16_swizzle(bytes, places)
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
        #[inline(always)]
        pub fn splat(value: f32) -> F32x4 {
            F32x4(f32x4_splat(value))
        }

        #[inline(always)]
        pub fn load(from: &[f32; 4]) -> F32x4 {
            // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
            F32x4(unsafe { v128_load(from.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn store(self, to: &mut [f32; 4]) {
            // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
            unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
        }

        #[inline(always)]
        pub fn add(self, other: F32x4) -> F32x4 {
            F32x4(f32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub fn mul(self, other: F32x4) -> F32x4 {
            F32x4(f32x4_mul(self.0, other.0))
        }

        /// `self * factor + sum`.
        #[inline(always)]
        pub fn mul_add(self, factor: F32x4, sum: F32x4) -> F32x4 {
            #[cfg(target_feature = "relaxed-simd")]
            return F32x4(f32x4_relaxed_madd(self.0, factor.0, sum.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            F32x4(f32x4_add(f32x4_mul(self.0, factor.0), sum.0))
        }

        /// The larger of each two lanes: one instruction, unlike the maximum that keeps NaN. The
        /// relaxed one also with a constant, where rustc makes a comparison and a choice of
        /// `f32x4_pmax`: five times as many micro-operations.
        #[inline(always)]
        pub fn max(self, other: F32x4) -> F32x4 {
            #[cfg(target_feature = "relaxed-simd")]
            return F32x4(f32x4_relaxed_max(self.0, other.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            F32x4(f32x4_pmax(self.0, other.0))
        }

        /// The smaller of each two lanes.
        #[inline(always)]
        pub fn min(self, other: F32x4) -> F32x4 {
            #[cfg(target_feature = "relaxed-simd")]
            return F32x4(f32x4_relaxed_min(self.0, other.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            F32x4(f32x4_pmin(self.0, other.0))
        }

        /// One of the lanes, four times.
        #[inline(always)]
        pub fn lane<const LANE: usize>(self) -> F32x4 {
            F32x4(match LANE {
                0 => i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0),
                1 => i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0),
                2 => i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0),
                _ => i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0),
            })
        }

        #[inline(always)]
        pub fn abs(self) -> F32x4 {
            F32x4(f32x4_abs(self.0))
        }

        #[inline(always)]
        pub fn div(self, other: F32x4) -> F32x4 {
            F32x4(f32x4_div(self.0, other.0))
        }

        /// The largest lane of each of four vectors.
        #[inline(always)]
        pub fn largest_of_each([a, b, c, d]: [F32x4; 4]) -> F32x4 {
            let halves = |x: F32x4, y: F32x4| {
                let low = F32x4(i32x4_shuffle::<0, 4, 1, 5>(x.0, y.0));
                low.max(F32x4(i32x4_shuffle::<2, 6, 3, 7>(x.0, y.0)))
            };
            let (x, y) = (halves(a, b), halves(c, d));
            let low = F32x4(i32x4_shuffle::<0, 1, 4, 5>(x.0, y.0));
            low.max(F32x4(i32x4_shuffle::<2, 3, 6, 7>(x.0, y.0)))
        }

        /// The nearest integers; where there is none, one that is far from 0.
        #[inline(always)]
        pub fn nearest(self) -> I32x4 {
            let nearest = f32x4_nearest(self.0);
            #[cfg(target_feature = "relaxed-simd")]
            return I32x4(i32x4_relaxed_trunc_f32x4(nearest));
            #[cfg(not(target_feature = "relaxed-simd"))]
            I32x4(i32x4_trunc_sat_f32x4(nearest))
        }

        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            let mut lanes = [0.0; 4];
            self.store(&mut lanes);
            lanes
        }
    }

    impl I32x4 {
        pub const ZERO: I32x4 = I32x4(i32x4(0, 0, 0, 0));

        #[inline(always)]
        pub fn splat(value: i32) -> I32x4 {
            I32x4(i32x4_splat(value))
        }

        /// Divided by a power of two, downwards.
        #[inline(always)]
        pub fn shift_right<const BITS: u32>(self) -> I32x4 {
            I32x4(i32x4_shr(self.0, BITS))
        }

        #[inline(always)]
        pub fn add(self, other: I32x4) -> I32x4 {
            I32x4(i32x4_add(self.0, other.0))
        }

        #[inline(always)]
        pub fn sub(self, other: I32x4) -> I32x4 {
            I32x4(i32x4_sub(self.0, other.0))
        }

        #[inline(always)]
        pub fn mul(self, other: I32x4) -> I32x4 {
            I32x4(i32x4_mul(self.0, other.0))
        }

        #[inline(always)]
        pub fn or(self, other: I32x4) -> I32x4 {
            I32x4(v128_or(self.0, other.0))
        }

        #[inline(always)]
        pub fn any_negative(self) -> bool {
            i32x4_bitmask(self.0) != 0
        }

        #[inline(always)]
        pub fn to_array(self) -> [i32; 4] {
            [
                i32x4_extract_lane::<0>(self.0),
                i32x4_extract_lane::<1>(self.0),
                i32x4_extract_lane::<2>(self.0),
                i32x4_extract_lane::<3>(self.0),
            ]
        }

        #[inline(always)]
        pub fn to_f32(self) -> F32x4 {
            F32x4(f32x4_convert_i32x4(self.0))
        }
    }

    impl I16x8 {
        #[inline(always)]
        pub fn splat(value: i16) -> I16x8 {
            I16x8(i16x8_splat(value))
        }

        /// Eight bytes.
        #[inline(always)]
        pub fn widen(from: &[u8; 8]) -> I16x8 {
            // SAFETY: the reference is to 8 readable bytes; the instruction needs no alignment.
            I16x8(unsafe { i16x8_load_extend_u8x8(from.as_ptr()) })
        }

        /// The colours of two pixels, each beside the other's; then whatever comes.
        #[inline(always)]
        pub fn colours(from: &[u8; 8]) -> I16x8 {
            /// Of each integer the lower byte is one of these; the higher one is 0.
            static PLACES: v128 = i8x16(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, 6, -1, 7, -1);
            // SAFETY: the reference is to 8 readable bytes; the instruction needs no alignment.
            I16x8(swizzle(unsafe { v128_load64_zero(from.as_ptr().cast()) }, &PLACES))
        }

        #[inline(always)]
        pub fn mul(self, other: I16x8) -> I16x8 {
            I16x8(i16x8_mul(self.0, other.0))
        }

        #[inline(always)]
        pub fn load(from: &[i16; 8]) -> I16x8 {
            // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
            I16x8(unsafe { v128_load(from.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn store(self, to: &mut [i16; 8]) {
            // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
            unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
        }

        /// Eight floats times a factor, rounded to the nearest integers: 16 bits must be enough.
        #[inline(always)]
        pub fn scale(low: F32x4, high: F32x4, factor: F32x4) -> I16x8 {
            I16x8::scale_from(low, high, factor, F32x4::splat(0.0))
        }

        /// The same, with an integer added to each.
        #[inline(always)]
        fn scale_from(low: F32x4, high: F32x4, factor: F32x4, zero: F32x4) -> I16x8 {
            let magic = F32x4::splat(ROUNDING);
            let start = magic.add(zero);
            let integer = |value: F32x4| i32x4_sub(value.mul_add(factor, start).0, magic.0);
            I16x8(i16x8_narrow_i32x4(integer(low), integer(high)))
        }

        #[inline(always)]
        pub fn add(self, other: I16x8) -> I16x8 {
            I16x8(i16x8_add(self.0, other.0))
        }

        /// Each pair of lanes added up.
        #[inline(always)]
        pub fn pairs(self) -> I32x4 {
            I32x4(i32x4_extadd_pairwise_i16x8(self.0))
        }

        /// The lanes times fractions: `i16::MIN` stands for −1. Rounded to the nearest integer.
        #[inline(always)]
        pub fn times(self, fractions: I16x8) -> I16x8 {
            #[cfg(target_feature = "relaxed-simd")]
            return I16x8(i16x8_relaxed_q15mulr(self.0, fractions.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            I16x8(i16x8_q15mulr_sat(self.0, fractions.0))
        }

        #[inline(always)]
        pub fn max(self, other: I16x8) -> I16x8 {
            I16x8(i16x8_max(self.0, other.0))
        }

        #[inline(always)]
        pub fn min(self, other: I16x8) -> I16x8 {
            I16x8(i16x8_min(self.0, other.0))
        }

        /// Eight floats between 0 and `i16::MAX` without what is behind the point.
        #[inline(always)]
        pub fn truncate(low: F32x4, high: F32x4) -> I16x8 {
            #[cfg(target_feature = "relaxed-simd")]
            let integer = |value: F32x4| i32x4_relaxed_trunc_f32x4(value.0);
            #[cfg(not(target_feature = "relaxed-simd"))]
            let integer = |value: F32x4| i32x4_trunc_sat_f32x4(value.0);
            I16x8(i16x8_narrow_i32x4(integer(low), integer(high)))
        }

        #[inline(always)]
        pub fn to_floats(self) -> [F32x4; 2] {
            let (low, high) = (i32x4_extend_low_i16x8(self.0), i32x4_extend_high_i16x8(self.0));
            [low, high].map(|four| F32x4(f32x4_convert_i32x4(four)))
        }

        /// The pair of lanes `2 * PAIR` and `2 * PAIR + 1`, four times.
        #[inline(always)]
        pub fn pair<const PAIR: usize>(self) -> I16x8 {
            I16x8(match PAIR {
                0 => i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0),
                1 => i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0),
                2 => i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0),
                _ => i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0),
            })
        }

        /// The products of all lanes, each pair of them added up.
        #[inline(always)]
        pub fn dot(self, other: I16x8) -> I32x4 {
            I32x4(i32x4_dot_i16x8(self.0, other.0))
        }
    }

    impl I8x16 {
        #[inline(always)]
        pub fn load(from: &[i8; 16]) -> I8x16 {
            // SAFETY: the reference is to 16 readable bytes; the instruction needs no alignment.
            I8x16(unsafe { v128_load(from.as_ptr().cast()) })
        }

        #[inline(always)]
        pub fn store(self, to: &mut [i8; 16]) {
            // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
            unsafe { v128_store(to.as_mut_ptr().cast(), self.0) }
        }

        /// Sixteen floats times a factor, rounded to the nearest integers, and an integer added to
        /// each: 8 bits must be enough.
        #[inline(always)]
        pub fn scale([a, b, c, d]: [F32x4; 4], factor: F32x4, zero: F32x4) -> I8x16 {
            let low = I16x8::scale_from(a, b, factor, zero);
            let high = I16x8::scale_from(c, d, factor, zero);
            I8x16(i8x16_narrow_i16x8(low.0, high.0))
        }

        /// The first three of four integers each, which fit, and then whatever comes.
        #[inline(always)]
        pub fn store_colours([a, b, c, d]: [I32x4; 4], to: &mut [u8; 16]) {
            static PLACES: v128 = i8x16(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 7, 11, 15);
            let (low, high) = (i16x8_narrow_i32x4(a.0, b.0), i16x8_narrow_i32x4(c.0, d.0));
            let colours = swizzle(u8x16_narrow_i16x8(low, high), &PLACES);
            // SAFETY: the reference is to 16 writable bytes; the instruction needs no alignment.
            unsafe { v128_store(to.as_mut_ptr().cast(), colours) }
        }

        /// Sixteen integers that fit.
        #[inline(always)]
        pub fn narrow(low: I16x8, high: I16x8) -> I8x16 {
            I8x16(i8x16_narrow_i16x8(low.0, high.0))
        }

        /// Four neighbouring lanes four times, of each four of them.
        #[inline(always)]
        pub fn quads(self) -> [I8x16; 4] {
            [
                I8x16(i32x4_shuffle::<0, 0, 0, 0>(self.0, self.0)),
                I8x16(i32x4_shuffle::<1, 1, 1, 1>(self.0, self.0)),
                I8x16(i32x4_shuffle::<2, 2, 2, 2>(self.0, self.0)),
                I8x16(i32x4_shuffle::<3, 3, 3, 3>(self.0, self.0)),
            ]
        }

        /// The products of all lanes, each pair of them added up; the second's are not negative.
        #[inline(always)]
        pub fn dot(self, positive: I8x16) -> I16x8 {
            #[cfg(target_feature = "relaxed-simd")]
            return I16x8(i16x8_relaxed_dot_i8x16_i7x16(self.0, positive.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            {
                let low = i16x8_extmul_low_i8x16(self.0, positive.0);
                let high = i16x8_extmul_high_i8x16(self.0, positive.0);
                let even = i16x8_shuffle::<0, 2, 4, 6, 8, 10, 12, 14>(low, high);
                let odd = i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(low, high);
                I16x8(i16x8_add(even, odd))
            }
        }
    }
}

#[cfg(not(target_family = "wasm"))]
#[allow(missing_docs, reason = "documented on the WebAssembly side")]
mod lanes {
    use std::array::from_fn;

    use super::ROUNDING;

    /// Four floats.
    #[derive(Clone, Copy)]
    pub struct F32x4([f32; 4]);
    /// Four integers of 32 bits.
    #[derive(Clone, Copy)]
    pub struct I32x4([i32; 4]);
    /// Eight integers of 16 bits.
    #[derive(Clone, Copy)]
    pub struct I16x8([i16; 8]);
    /// Sixteen integers of 8 bits.
    #[derive(Clone, Copy)]
    pub struct I8x16([i8; 16]);

    impl F32x4 {
        #[inline(always)]
        pub fn splat(value: f32) -> F32x4 {
            F32x4([value; 4])
        }

        #[inline(always)]
        pub fn load(from: &[f32; 4]) -> F32x4 {
            F32x4(*from)
        }

        #[inline(always)]
        pub fn store(self, to: &mut [f32; 4]) {
            *to = self.0;
        }

        #[inline(always)]
        pub fn add(self, other: F32x4) -> F32x4 {
            F32x4(from_fn(|i| self.0[i] + other.0[i]))
        }

        #[inline(always)]
        pub fn mul(self, other: F32x4) -> F32x4 {
            F32x4(from_fn(|i| self.0[i] * other.0[i]))
        }

        /// `self * factor + sum`.
        #[inline(always)]
        pub fn mul_add(self, factor: F32x4, sum: F32x4) -> F32x4 {
            self.mul(factor).add(sum)
        }

        /// The larger of each two lanes.
        #[inline(always)]
        pub fn max(self, other: F32x4) -> F32x4 {
            F32x4(from_fn(|i| if self.0[i] < other.0[i] { other.0[i] } else { self.0[i] }))
        }

        /// The smaller of each two lanes.
        #[inline(always)]
        pub fn min(self, other: F32x4) -> F32x4 {
            F32x4(from_fn(|i| if other.0[i] < self.0[i] { other.0[i] } else { self.0[i] }))
        }

        /// One of the lanes, four times.
        #[inline(always)]
        pub fn lane<const LANE: usize>(self) -> F32x4 {
            F32x4([self.0[LANE]; 4])
        }

        #[inline(always)]
        pub fn abs(self) -> F32x4 {
            F32x4(self.0.map(f32::abs))
        }

        #[inline(always)]
        pub fn div(self, other: F32x4) -> F32x4 {
            F32x4(from_fn(|i| self.0[i] / other.0[i]))
        }

        /// The largest lane of each of four vectors.
        #[inline(always)]
        pub fn largest_of_each(vectors: [F32x4; 4]) -> F32x4 {
            F32x4(vectors.map(|F32x4([a, b, c, d])| a.max(b).max(c.max(d))))
        }

        /// The nearest integers; where there is none, one that is far from 0.
        #[inline(always)]
        pub fn nearest(self) -> I32x4 {
            I32x4(self.0.map(|lane| lane.round_ties_even() as i32))
        }

        #[inline(always)]
        pub fn to_array(self) -> [f32; 4] {
            self.0
        }
    }

    impl I32x4 {
        pub const ZERO: I32x4 = I32x4([0; 4]);

        #[inline(always)]
        pub fn splat(value: i32) -> I32x4 {
            I32x4([value; 4])
        }

        /// Divided by a power of two, downwards.
        #[inline(always)]
        pub fn shift_right<const BITS: u32>(self) -> I32x4 {
            I32x4(self.0.map(|lane| lane >> BITS))
        }

        #[inline(always)]
        pub fn add(self, other: I32x4) -> I32x4 {
            I32x4(from_fn(|i| self.0[i].wrapping_add(other.0[i])))
        }

        #[inline(always)]
        pub fn sub(self, other: I32x4) -> I32x4 {
            I32x4(from_fn(|i| self.0[i].wrapping_sub(other.0[i])))
        }

        #[inline(always)]
        pub fn mul(self, other: I32x4) -> I32x4 {
            I32x4(from_fn(|i| self.0[i].wrapping_mul(other.0[i])))
        }

        #[inline(always)]
        pub fn or(self, other: I32x4) -> I32x4 {
            I32x4(from_fn(|i| self.0[i] | other.0[i]))
        }

        #[inline(always)]
        pub fn any_negative(self) -> bool {
            self.0.iter().any(|lane| *lane < 0)
        }

        #[inline(always)]
        pub fn to_array(self) -> [i32; 4] {
            self.0
        }

        #[inline(always)]
        pub fn to_f32(self) -> F32x4 {
            F32x4(self.0.map(|lane| lane as f32))
        }
    }

    impl I16x8 {
        #[inline(always)]
        pub fn splat(value: i16) -> I16x8 {
            I16x8([value; 8])
        }

        /// Eight bytes.
        #[inline(always)]
        pub fn widen(from: &[u8; 8]) -> I16x8 {
            I16x8(from.map(i16::from))
        }

        /// The colours of two pixels, each beside the other's; then whatever comes.
        #[inline(always)]
        pub fn colours(from: &[u8; 8]) -> I16x8 {
            I16x8([0, 3, 1, 4, 2, 5, 6, 7].map(|place| from[place].into()))
        }

        #[inline(always)]
        pub fn mul(self, other: I16x8) -> I16x8 {
            I16x8(from_fn(|i| self.0[i].wrapping_mul(other.0[i])))
        }

        #[inline(always)]
        pub fn load(from: &[i16; 8]) -> I16x8 {
            I16x8(*from)
        }

        #[inline(always)]
        pub fn store(self, to: &mut [i16; 8]) {
            *to = self.0;
        }

        /// Eight floats times a factor, rounded to the nearest integers: 16 bits must be enough.
        #[inline(always)]
        pub fn scale(low: F32x4, high: F32x4, factor: F32x4) -> I16x8 {
            I16x8::scale_from(low, high, factor, F32x4::splat(0.0))
        }

        /// The same, with an integer added to each.
        #[inline(always)]
        fn scale_from(low: F32x4, high: F32x4, factor: F32x4, zero: F32x4) -> I16x8 {
            let start = F32x4::splat(ROUNDING).add(zero);
            let (low, high) = (low.mul_add(factor, start), high.mul_add(factor, start));
            let integer = |value: f32| {
                let bits = value.to_bits().wrapping_sub(ROUNDING.to_bits());
                (bits as i32).clamp(i16::MIN.into(), i16::MAX.into()) as i16
            };
            I16x8(from_fn(|i| integer(if i < 4 { low.0[i] } else { high.0[i - 4] })))
        }

        #[inline(always)]
        pub fn add(self, other: I16x8) -> I16x8 {
            I16x8(from_fn(|i| self.0[i].wrapping_add(other.0[i])))
        }

        /// Each pair of lanes added up.
        #[inline(always)]
        pub fn pairs(self) -> I32x4 {
            I32x4(from_fn(|i| i32::from(self.0[2 * i]) + i32::from(self.0[2 * i + 1])))
        }

        /// The lanes times fractions: `i16::MIN` stands for −1. Rounded to the nearest integer.
        #[inline(always)]
        pub fn times(self, fractions: I16x8) -> I16x8 {
            let product = |i: usize| i32::from(self.0[i]) * i32::from(fractions.0[i]);
            I16x8(from_fn(|i| ((product(i) + (1 << 14)) >> 15).min(i16::MAX.into()) as i16))
        }

        #[inline(always)]
        pub fn max(self, other: I16x8) -> I16x8 {
            I16x8(from_fn(|i| self.0[i].max(other.0[i])))
        }

        #[inline(always)]
        pub fn min(self, other: I16x8) -> I16x8 {
            I16x8(from_fn(|i| self.0[i].min(other.0[i])))
        }

        /// Eight floats between 0 and `i16::MAX` without what is behind the point.
        #[inline(always)]
        pub fn truncate(low: F32x4, high: F32x4) -> I16x8 {
            I16x8(from_fn(|i| if i < 4 { low.0[i] } else { high.0[i - 4] } as i16))
        }

        #[inline(always)]
        pub fn to_floats(self) -> [F32x4; 2] {
            [0, 4].map(|first| F32x4(from_fn(|i| self.0[first + i].into())))
        }

        /// The pair of lanes `2 * PAIR` and `2 * PAIR + 1`, four times.
        #[inline(always)]
        pub fn pair<const PAIR: usize>(self) -> I16x8 {
            I16x8(from_fn(|i| self.0[2 * PAIR + i % 2]))
        }

        /// The products of all lanes, each pair of them added up.
        #[inline(always)]
        pub fn dot(self, other: I16x8) -> I32x4 {
            let product = |i: usize| i32::from(self.0[i]) * i32::from(other.0[i]);
            I32x4(from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
        }
    }

    impl I8x16 {
        #[inline(always)]
        pub fn load(from: &[i8; 16]) -> I8x16 {
            I8x16(*from)
        }

        #[inline(always)]
        pub fn store(self, to: &mut [i8; 16]) {
            *to = self.0;
        }

        /// Sixteen floats times a factor, rounded to the nearest integers, and an integer added to
        /// each: 8 bits must be enough.
        #[inline(always)]
        pub fn scale([a, b, c, d]: [F32x4; 4], factor: F32x4, zero: F32x4) -> I8x16 {
            let low = I16x8::scale_from(a, b, factor, zero);
            let high = I16x8::scale_from(c, d, factor, zero);
            let lane = |i: usize| if i < 8 { low.0[i] } else { high.0[i - 8] };
            I8x16(from_fn(|i| lane(i).clamp(i8::MIN.into(), i8::MAX.into()) as i8))
        }

        /// The first three of four integers each, which fit, and then whatever comes.
        #[inline(always)]
        pub fn store_colours(four: [I32x4; 4], to: &mut [u8; 16]) {
            for (I32x4(colours), to) in four.into_iter().zip(to.as_chunks_mut::<3>().0) {
                *to = from_fn(|i| colours[i] as u8);
            }
        }

        /// Sixteen integers that fit.
        #[inline(always)]
        pub fn narrow(low: I16x8, high: I16x8) -> I8x16 {
            let lane = |i: usize| if i < 8 { low.0[i] } else { high.0[i - 8] };
            I8x16(from_fn(|i| lane(i).clamp(i8::MIN.into(), i8::MAX.into()) as i8))
        }

        /// Four neighbouring lanes four times, of each four of them.
        #[inline(always)]
        pub fn quads(self) -> [I8x16; 4] {
            from_fn(|quad| I8x16(from_fn(|i| self.0[4 * quad + i % 4])))
        }

        /// The products of all lanes, each pair of them added up; the second's are not negative.
        #[inline(always)]
        pub fn dot(self, positive: I8x16) -> I16x8 {
            let product = |i: usize| i16::from(self.0[i]) * i16::from(positive.0[i]);
            I16x8(from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
        }
    }
}
