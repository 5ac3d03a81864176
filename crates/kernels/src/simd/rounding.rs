//! Rounding by addition.

/// 1.5 · 2²³. Added to a value between −2²² and 2²², it leaves the nearest integer in the sum's lowest
/// bits: a multiply-add quantises and rounds in one instruction.
pub const ROUNDING: f32 = 12_582_912.0;
