//! Numbers between the layers of a [block](super::block): floats, or integers of 16 bits where the
//! layers' activations say in which range they lie (ReLU6: 0 to 6).
//!
//! Integers need half of the memory, and half of the instructions where they are multiplied
//! ([depthwise](super::depthwise)), where their range is looked for and where they are scaled to 8 bits.
//! Measured: with them the landmarks of the test photos move by 0.6 % of the palm's length on average
//! against 32-bit floats in the place of 0.5 %, with the lite models by 0.8 % in that of 0.7 %; of 1,512
//! and 1,820 photos as many letters as before are right.

use super::eight::{self, PixelStep};
use super::ends::{Ends, Floats, Integers};
use super::line::GROUP;
use super::simd::{F32x4, I16x8};
use super::tiles::{LineTile, Units};

/// A number of a [line](super::line).
pub(super) trait Number: Copy + Default + 'static {
    /// As many of them as an instruction takes.
    type Vector: Copy + Default + PartialEq + std::fmt::Debug;
    /// These in a register.
    type Register: Copy;
    /// What is done to a depthwise convolution's sums of them at the end.
    type Ends: Ends<Self>;
    /// How many an instruction takes.
    const LANES: usize;

    /// Groups of channels as vectors.
    fn vectors(groups: &[[Self; GROUP]]) -> &[Self::Vector];

    /// The same, to be written.
    fn vectors_mut(groups: &mut [[Self; GROUP]]) -> &mut [Self::Vector];

    /// A vector.
    fn load(from: &Self::Vector) -> Self::Register;

    /// To a vector.
    fn store(register: Self::Register, to: &mut Self::Vector);

    /// Products of a depthwise convolution's numbers and weights.
    fn multiply(number: Self::Register, weight: Self::Register) -> Self::Register;

    /// Sums of these.
    fn add(a: Self::Register, b: Self::Register) -> Self::Register;

    /// Both.
    fn multiply_add(
        number: Self::Register,
        weight: Self::Register,
        sum: Self::Register,
    ) -> Self::Register;

    /// A group's numbers as floats.
    fn floats(group: &[Self; GROUP]) -> [F32x4; 2];

    /// Floats as a group's numbers, which they have to fit.
    fn put(floats: [F32x4; 2], group: &mut [Self; GROUP]);

    /// As floats to where a vector's numbers go, of which there may be fewer; the number 1 stands for
    /// `unit`.
    fn spread(register: Self::Register, unit: f32, to: &mut [f32]);

    /// Integers of 8 bits for a tile's pixels.
    fn scale_to_eight(pixels: LineTile<Self>, tile: &mut [PixelStep]) -> Units;
}

impl Number for f32 {
    type Vector = [f32; 4];
    type Register = F32x4;
    type Ends = Floats;
    const LANES: usize = 4;

    fn vectors(groups: &[[f32; GROUP]]) -> &[[f32; 4]] {
        groups.as_flattened().as_chunks().0
    }

    fn vectors_mut(groups: &mut [[f32; GROUP]]) -> &mut [[f32; 4]] {
        groups.as_flattened_mut().as_chunks_mut().0
    }

    #[inline(always)]
    fn load(from: &[f32; 4]) -> F32x4 {
        F32x4::load(from)
    }

    #[inline(always)]
    fn store(register: F32x4, to: &mut [f32; 4]) {
        register.store(to);
    }

    #[inline(always)]
    fn multiply(number: F32x4, weight: F32x4) -> F32x4 {
        number.mul(weight)
    }

    #[inline(always)]
    fn add(a: F32x4, b: F32x4) -> F32x4 {
        a.add(b)
    }

    #[inline(always)]
    fn multiply_add(number: F32x4, weight: F32x4, sum: F32x4) -> F32x4 {
        number.mul_add(weight, sum)
    }

    #[inline(always)]
    fn floats(group: &[f32; GROUP]) -> [F32x4; 2] {
        F32x4::load_two(group)
    }

    #[inline(always)]
    fn put(floats: [F32x4; 2], group: &mut [f32; GROUP]) {
        F32x4::store_two(floats, group);
    }

    #[inline(always)]
    fn spread(register: F32x4, _: f32, to: &mut [f32]) {
        if let Some(to) = to.first_chunk_mut() {
            register.store(to);
        }
    }

    #[inline(always)]
    fn scale_to_eight(pixels: LineTile<f32>, tile: &mut [PixelStep]) -> Units {
        eight::scale_floats(pixels, tile)
    }
}

/// What the largest number becomes in 16 bits; 0 stays 0, and nothing is negative.
pub(super) const LARGEST: f32 = i16::MAX as f32;

impl Number for i16 {
    type Vector = [i16; 8];
    type Register = I16x8;
    type Ends = Integers;
    const LANES: usize = 8;

    fn vectors(groups: &[[i16; GROUP]]) -> &[[i16; 8]] {
        groups
    }

    fn vectors_mut(groups: &mut [[i16; GROUP]]) -> &mut [[i16; 8]] {
        groups
    }

    #[inline(always)]
    fn load(from: &[i16; 8]) -> I16x8 {
        I16x8::load(from)
    }

    #[inline(always)]
    fn store(register: I16x8, to: &mut [i16; 8]) {
        register.store(to);
    }

    #[inline(always)]
    fn multiply(number: I16x8, weight: I16x8) -> I16x8 {
        number.times(weight)
    }

    #[inline(always)]
    fn add(a: I16x8, b: I16x8) -> I16x8 {
        a.add(b)
    }

    #[inline(always)]
    fn multiply_add(number: I16x8, weight: I16x8, sum: I16x8) -> I16x8 {
        sum.add(number.times(weight))
    }

    #[inline(always)]
    fn floats(group: &[i16; GROUP]) -> [F32x4; 2] {
        I16x8::load(group).to_floats()
    }

    #[inline(always)]
    fn put([low, high]: [F32x4; 2], group: &mut [i16; GROUP]) {
        I16x8::truncate(low, high).store(group);
    }

    #[inline(always)]
    fn spread(register: I16x8, unit: f32, to: &mut [f32]) {
        for (four, to) in register.to_floats().into_iter().zip(to.as_chunks_mut().0) {
            four.mul(F32x4::splat(unit)).store(to);
        }
    }

    #[inline(always)]
    fn scale_to_eight(pixels: LineTile<i16>, tile: &mut [PixelStep]) -> Units {
        eight::scale_integers(pixels, tile)
    }
}
