//! Arrays with the operations of `wasm.rs`, which documents them, for native tests.
#![allow(missing_docs, reason = "documented in wasm.rs")]
#![allow(
    clippy::should_implement_trait,
    reason = "methods read in the order of the instructions, mul_add among them"
)]

use std::array::from_fn;

use super::rounding::ROUNDING;

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

    #[inline(always)]
    pub fn mul_add(self, factor: F32x4, sum: F32x4) -> F32x4 {
        self.mul(factor).add(sum)
    }

    #[inline(always)]
    pub fn max(self, other: F32x4) -> F32x4 {
        F32x4(from_fn(|i| if self.0[i] < other.0[i] { other.0[i] } else { self.0[i] }))
    }

    #[inline(always)]
    pub fn min(self, other: F32x4) -> F32x4 {
        F32x4(from_fn(|i| if other.0[i] < self.0[i] { other.0[i] } else { self.0[i] }))
    }

    #[inline(always)]
    pub fn splat_lane<const LANE: usize>(self) -> F32x4 {
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

    #[inline(always)]
    pub fn max_of_each(vectors: [F32x4; 4]) -> F32x4 {
        F32x4(vectors.map(|F32x4([a, b, c, d])| a.max(b).max(c.max(d))))
    }

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

    #[inline(always)]
    pub fn widen(from: &[u8; 8]) -> I16x8 {
        I16x8(from.map(i16::from))
    }

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

    #[inline(always)]
    pub fn quantise(low: F32x4, high: F32x4, factor: F32x4) -> I16x8 {
        I16x8::quantise_around(low, high, factor, F32x4::splat(0.0))
    }

    #[inline(always)]
    fn quantise_around(low: F32x4, high: F32x4, factor: F32x4, zero: F32x4) -> I16x8 {
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

    #[inline(always)]
    pub fn pairwise_add(self) -> I32x4 {
        I32x4(from_fn(|i| i32::from(self.0[2 * i]) + i32::from(self.0[2 * i + 1])))
    }

    #[inline(always)]
    pub fn mul_q15_round(self, fractions: I16x8) -> I16x8 {
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

    #[inline(always)]
    pub fn truncate(low: F32x4, high: F32x4) -> I16x8 {
        I16x8(from_fn(|i| if i < 4 { low.0[i] } else { high.0[i - 4] } as i16))
    }

    #[inline(always)]
    pub fn to_f32(self) -> [F32x4; 2] {
        [0, 4].map(|first| F32x4(from_fn(|i| self.0[first + i].into())))
    }

    #[inline(always)]
    pub fn splat_pair<const PAIR: usize>(self) -> I16x8 {
        I16x8(from_fn(|i| self.0[2 * PAIR + i % 2]))
    }

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

    #[inline(always)]
    pub fn quantise([a, b, c, d]: [F32x4; 4], factor: F32x4, zero: F32x4) -> I8x16 {
        let low = I16x8::quantise_around(a, b, factor, zero);
        let high = I16x8::quantise_around(c, d, factor, zero);
        I8x16::narrow(low, high)
    }

    #[inline(always)]
    pub fn store_colours(four: [I32x4; 4], to: &mut [u8; 16]) {
        for (I32x4(colours), to) in four.into_iter().zip(to.as_chunks_mut::<3>().0) {
            *to = from_fn(|i| colours[i] as u8);
        }
    }

    #[inline(always)]
    pub fn narrow(low: I16x8, high: I16x8) -> I8x16 {
        let lane = |i: usize| if i < 8 { low.0[i] } else { high.0[i - 8] };
        I8x16(from_fn(|i| lane(i).clamp(i8::MIN.into(), i8::MAX.into()) as i8))
    }

    #[inline(always)]
    pub fn splat_quads(self) -> [I8x16; 4] {
        from_fn(|quad| I8x16(from_fn(|i| self.0[4 * quad + i % 4])))
    }

    #[inline(always)]
    pub fn dot(self, unsigned: I8x16) -> I16x8 {
        let product = |i: usize| i16::from(self.0[i]) * i16::from(unsigned.0[i]);
        I16x8(from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1))))
    }
}
