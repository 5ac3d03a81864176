//! Vectors of 128 bits.
//!
//! In WebAssembly they are `v128`, with the instructions of simd128 and, where the target has it, of
//! relaxed-simd. Elsewhere they are arrays that compute the same lane by lane, so that native tests run
//! the kernels' own code.
//!
//! `wasm.rs` and `portable.rs` hold the instructions, this file what is made of them, and `cranelift.rs`
//! the workarounds for the compilers.

pub(crate) mod cranelift;
#[cfg(not(target_family = "wasm"))]
mod portable;
mod rounding;
#[cfg(target_family = "wasm")]
mod wasm;

#[cfg(not(target_family = "wasm"))]
pub use portable::{F32x4, I8x16, I16x8, I32x4};
#[cfg(target_family = "wasm")]
pub use wasm::{F32x4, I8x16, I16x8, I32x4};

use rounding::ROUNDING;

impl F32x4 {
    /// Loads two vectors.
    #[inline(always)]
    pub fn load_two(from: &[f32; 8]) -> [F32x4; 2] {
        let [a, b, c, d, e, f, g, h] = *from;
        [F32x4::load(&[a, b, c, d]), F32x4::load(&[e, f, g, h])]
    }

    /// Loads four vectors.
    #[inline(always)]
    pub fn load_four(from: &[f32; 16]) -> [F32x4; 4] {
        let (eights, _) = from.as_chunks::<8>();
        let ([a, b], [c, d]) = (F32x4::load_two(&eights[0]), F32x4::load_two(&eights[1]));
        [a, b, c, d]
    }

    /// Loads fewer than eight values and fills up with zeros.
    #[inline(always)]
    pub(crate) fn load_partial_two(from: &[f32]) -> [F32x4; 2] {
        let mut padded = [0.0; 8];
        if !from.is_empty() {
            padded[..from.len()].copy_from_slice(from);
        }
        F32x4::load_two(&padded)
    }

    /// Loads fewer than sixteen values and fills up with zeros.
    ///
    /// Eight of them are not copied, since a copy is a call of the host in WebAssembly: the models have
    /// layers of 24 and 40 channels.
    #[inline(always)]
    pub(crate) fn load_partial_four(from: &[f32]) -> [F32x4; 4] {
        let zeros = [F32x4::splat(0.0); 2];
        let ([a, b], [c, d]) = match from.split_first_chunk() {
            Some((eight, [])) => (F32x4::load_two(eight), zeros),
            Some((eight, rest)) => (F32x4::load_two(eight), F32x4::load_partial_two(rest)),
            None => (F32x4::load_partial_two(from), zeros),
        };
        [a, b, c, d]
    }

    /// Stores two vectors.
    #[inline(always)]
    pub fn store_two(two: [F32x4; 2], to: &mut [f32; 8]) {
        let (fours, _) = to.as_chunks_mut::<4>();
        for (value, four) in two.into_iter().zip(fours) {
            value.store(four);
        }
    }

    /// Returns each lane in a vector of its own, four times.
    #[inline(always)]
    pub fn splat_lanes(self) -> [F32x4; 4] {
        [
            self.splat_lane::<0>(),
            self.splat_lane::<1>(),
            self.splat_lane::<2>(),
            self.splat_lane::<3>(),
        ]
    }

    /// Rounds lanes between −2²² and 2²² to the nearest integers.
    #[inline(always)]
    pub fn round(self) -> F32x4 {
        self.add(F32x4::splat(ROUNDING)).add(F32x4::splat(-ROUNDING))
    }
}

impl I16x8 {
    /// Stores each pair of lanes in a vector of its own, four times.
    #[inline(always)]
    pub fn store_splat_pairs(self, to: &mut [[i16; 8]; 4]) {
        let pairs = [
            self.splat_pair::<0>(),
            self.splat_pair::<1>(),
            self.splat_pair::<2>(),
            self.splat_pair::<3>(),
        ];
        for (pair, to) in pairs.into_iter().zip(to) {
            pair.store(to);
        }
    }
}

impl I8x16 {
    /// Stores each four neighbouring lanes in a vector of their own, four times.
    #[inline(always)]
    pub fn store_splat_quads(self, to: &mut [[i8; 16]; 4]) {
        for (quad, to) in self.splat_quads().into_iter().zip(to) {
            quad.store(to);
        }
    }
}

/// Natively these test `portable.rs`, in the sandbox `wasm.rs`, against plain numbers.
#[cfg(test)]
mod tests {
    use std::array::from_fn;

    use super::cranelift::{force_evaluation, opaque, volatile_load, volatile_store};
    use super::*;

    /// Vectors for each operation.
    const TURNS: usize = 200;

    fn floats(random: &mut fastrand::Rng, scale: f32) -> [f32; 4] {
        from_fn(|_| scale * (2.0 * random.f32() - 1.0))
    }

    fn i16s(random: &mut fastrand::Rng) -> [i16; 8] {
        from_fn(|_| random.i16(..))
    }

    fn stored(vector: I16x8) -> [i16; 8] {
        let mut lanes = [0; 8];
        vector.store(&mut lanes);
        lanes
    }

    fn stored_i8(vector: I8x16) -> [i8; 16] {
        let mut lanes = [0; 16];
        vector.store(&mut lanes);
        lanes
    }

    #[test]
    fn floats_are_computed_lane_by_lane() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..TURNS {
            let [a, b, c] = from_fn(|_| floats(&mut random, 10.0));
            let [x, y, z] = [a, b, c].map(|lanes| F32x4::load(&lanes));
            let lanes = |of: &dyn Fn(usize) -> f32| -> [f32; 4] { from_fn(of) };
            assert_eq!(x.add(y).to_array(), lanes(&|i| a[i] + b[i]));
            assert_eq!(x.mul(y).to_array(), lanes(&|i| a[i] * b[i]));
            assert_eq!(x.div(y).to_array(), lanes(&|i| a[i] / b[i]));
            assert_eq!(x.max(y).to_array(), lanes(&|i| a[i].max(b[i])));
            assert_eq!(x.min(y).to_array(), lanes(&|i| a[i].min(b[i])));
            assert_eq!(x.abs().to_array(), a.map(f32::abs));
            assert_eq!(x.round().to_array(), a.map(f32::round_ties_even));
            assert_eq!(x.nearest().to_array(), a.map(|lane| lane.round_ties_even() as i32));
            // Rounded once or twice.
            let fused = x.mul_add(y, z).to_array();
            for i in 0..4 {
                assert!((fused[i] - (a[i] * b[i] + c[i])).abs() <= 1e-5, "{fused:?}");
            }
            let splat = x.splat_lanes().map(F32x4::to_array);
            assert_eq!(splat, a.map(|lane| [lane; 4]));
            let max = |lanes: [f32; 4]| lanes.into_iter().fold(f32::MIN, f32::max);
            let max_of_each = F32x4::max_of_each([x, y, z, x]);
            assert_eq!(max_of_each.to_array(), [max(a), max(b), max(c), max(a)]);
        }
    }

    #[test]
    fn partial_loads_fill_up_with_zeros() {
        let values: [f32; 15] = from_fn(|i| i as f32 + 1.0);
        for length in 0..values.len() {
            let padded: [f32; 16] = from_fn(|i| if i < length { values[i] } else { 0.0 });
            let four = F32x4::load_partial_four(&values[..length]).map(F32x4::to_array);
            assert_eq!(four.as_flattened(), padded);
            assert_eq!(F32x4::load_four(&padded).map(F32x4::to_array), four);
            if length < 8 {
                let two = F32x4::load_partial_two(&values[..length]);
                let mut stored = [f32::NAN; 8];
                F32x4::store_two(two, &mut stored);
                assert_eq!(stored, padded[..8]);
            }
        }
    }

    #[test]
    fn i32_lanes_wrap() {
        let mut random = fastrand::Rng::with_seed(2);
        for _ in 0..TURNS {
            let [a, b] = [random.i32(..), random.i32(..)];
            let [x, y] = [a, b].map(I32x4::splat);
            assert_eq!(x.add(y).to_array(), [a.wrapping_add(b); 4]);
            assert_eq!(x.sub(y).to_array(), [a.wrapping_sub(b); 4]);
            assert_eq!(x.mul(y).to_array(), [a.wrapping_mul(b); 4]);
            assert_eq!(x.or(y).to_array(), [a | b; 4]);
            assert_eq!(x.shift_right::<5>().to_array(), [a >> 5; 4]);
            assert_eq!(x.any_negative(), a < 0);
            assert_eq!(x.to_f32().to_array(), [a as f32; 4]);
        }
        assert_eq!(I32x4::ZERO.to_array(), [0; 4]);
    }

    #[test]
    fn i16_products_are_those_of_plain_integers() {
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..TURNS {
            let (a, b) = (i16s(&mut random), i16s(&mut random));
            let (x, y) = (I16x8::load(&a), I16x8::load(&b));
            assert_eq!(stored(x.add(y)), from_fn(|i| a[i].wrapping_add(b[i])));
            assert_eq!(stored(x.mul(y)), from_fn(|i| a[i].wrapping_mul(b[i])));
            assert_eq!(stored(x.max(y)), from_fn(|i| a[i].max(b[i])));
            assert_eq!(stored(x.min(y)), from_fn(|i| a[i].min(b[i])));
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            let dot: [i32; 4] = from_fn(|i| product(2 * i).wrapping_add(product(2 * i + 1)));
            assert_eq!(x.dot(y).to_array(), dot);
            let pairs: [i32; 4] = from_fn(|i| i32::from(a[2 * i]) + i32::from(a[2 * i + 1]));
            assert_eq!(x.pairwise_add().to_array(), pairs);
            // Activations are not negative, so that −1 times −1 does not occur.
            let unsigned = a.map(|lane| lane & i16::MAX);
            let rounded = |i: usize| {
                let product = f64::from(unsigned[i]) * f64::from(b[i]) / 32_768.0;
                (product + 0.5).floor() as i16
            };
            assert_eq!(stored(I16x8::load(&unsigned).mul_q15_round(y)), from_fn(rounded));
            let widened: [f32; 8] = a.map(f32::from);
            assert_eq!(x.to_f32().map(F32x4::to_array).as_flattened(), widened);
        }
    }

    #[test]
    fn i8_dot_adds_neighbouring_products() {
        let mut random = fastrand::Rng::with_seed(4);
        for _ in 0..TURNS {
            let signed: [i8; 16] = from_fn(|_| random.i8(..));
            let unsigned: [i8; 16] = from_fn(|_| random.i8(0..));
            let dot = I8x16::load(&signed).dot(I8x16::load(&unsigned));
            let product = |i: usize| i16::from(signed[i]) * i16::from(unsigned[i]);
            assert_eq!(stored(dot), from_fn(|i| product(2 * i) + product(2 * i + 1)));
        }
    }

    #[test]
    fn quantised_floats_are_the_nearest_integers() {
        let mut random = fastrand::Rng::with_seed(5);
        for _ in 0..TURNS {
            let four: [[f32; 4]; 4] = from_fn(|_| floats(&mut random, 1.0));
            let vectors = four.each_ref().map(F32x4::load);
            let nearest = |value: f32, factor: f32| (value * factor).round_ties_even();
            let factor = 30_000.0;
            let i16s = I16x8::quantise(vectors[0], vectors[1], F32x4::splat(factor));
            for (found, value) in stored(i16s).into_iter().zip(four[..2].as_flattened()) {
                // A product that is rounded before the sum may lie on the other side of a half.
                assert!((f32::from(found) - nearest(*value, factor)).abs() <= 1.0);
                assert!((f32::from(found) - value * factor).abs() <= 0.51);
            }
            let (factor, zero) = (60.0, 60.0);
            let i8s = I8x16::quantise(vectors, F32x4::splat(factor), F32x4::splat(zero));
            for (found, value) in stored_i8(i8s).into_iter().zip(four.as_flattened()) {
                assert!((f32::from(found) - zero - value * factor).abs() <= 0.51);
            }
            let positive = vectors.map(|vector| vector.abs().mul(F32x4::splat(32_767.0)));
            let truncated = stored(I16x8::truncate(positive[0], positive[1]));
            for (found, value) in truncated.into_iter().zip(four[..2].as_flattened()) {
                assert_eq!(found, (value.abs() * 32_767.0) as i16);
            }
        }
    }

    #[test]
    fn splats_repeat_neighbouring_lanes() {
        let i16s: [i16; 8] = from_fn(|i| i as i16);
        let mut pairs = [[0; 8]; 4];
        I16x8::load(&i16s).store_splat_pairs(&mut pairs);
        assert_eq!(pairs, from_fn(|pair| from_fn(|i| i16s[2 * pair + i % 2])));
        let i8s: [i8; 16] = from_fn(|i| i as i8);
        let mut quads = [[0; 16]; 4];
        I8x16::load(&i8s).store_splat_quads(&mut quads);
        assert_eq!(quads, from_fn(|quad| from_fn(|i| i8s[4 * quad + i % 4])));
    }

    #[test]
    fn bytes_widen_and_integers_narrow() {
        let bytes = [0, 1, 127, 128, 200, 254, 255, 3];
        assert_eq!(stored(I16x8::widen(&bytes)), bytes.map(i16::from));
        let low = [-128, -1, 0, 1, 127, 2, 3, 4];
        let high = [5, 6, 7, 8, -9, -10, 11, 12];
        let narrow = stored_i8(I8x16::narrow(I16x8::load(&low), I16x8::load(&high)));
        let both: [i16; 16] = from_fn(|i| if i < 8 { low[i] } else { high[i - 8] });
        assert_eq!(narrow.map(i16::from), both);
    }

    #[test]
    fn colours_of_two_pixels_lie_in_pairs() {
        let lanes = stored(I16x8::colours(&[10, 20, 255, 40, 50, 60, 70, 80]));
        assert_eq!(lanes[..6], [10, 40, 20, 50, 255, 60]);
        let pixels: [[i32; 4]; 4] = from_fn(|i| from_fn(|j| (60 * i + 20 * j + 15) as i32));
        let pixels: [I32x4; 4] = pixels.map(|[r, g, b, _]| {
            // Whole vectors of each colour, of which one lane is taken.
            let colours = [r, g, b, 0].map(|colour| colour as f32);
            F32x4::load(&colours).nearest()
        });
        let mut bytes = [0; 16];
        I8x16::store_colours(pixels, &mut bytes);
        assert_eq!(bytes[..12], [15, 35, 55, 75, 95, 115, 135, 155, 175, 195, 215, 235]);
    }

    #[test]
    fn workarounds_change_no_value() {
        let mut values = [F32x4::splat(1.5), F32x4::splat(-2.0)];
        force_evaluation(&mut values);
        assert_eq!(values.map(|value| value.to_array()[0]), [1.5, -2.0]);
        assert_eq!([0, 1, usize::MAX].map(opaque), [0, 1, usize::MAX]);
        let mut place = 0;
        volatile_store(7, &mut place);
        assert_eq!(volatile_load(&place), 7);
    }
}
