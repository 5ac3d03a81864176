//! Hand landmarks: MediaPipe's landmark model, from a region of the photo to a [`Hand`].
//!
//! [`find`] samples the region, runs the model and maps its outputs back to the photo: 21 landmarks,
//! presence, handedness, and the model's pooled features. [`region_of`] gives the closer region in
//! which to look again.
//!
//! The constants are those of MediaPipe's graphs `hand_landmark_cpu.pbtxt` and
//! `hand_landmark_landmarks_to_roi.pbtxt`.

use crate::decode::Photo;
use crate::engine::{Input, Model, ModelError, Operators};
use crate::region::{Border, Rectangle, Region, sample, upright_rotation};

/// Side of the model's square input, in pixels.
pub const INPUT_SIDE: usize = 224;
/// Shape of the model's input: one picture, channels last, RGB.
pub const INPUT_SHAPE: [usize; 4] = [1, INPUT_SIDE, INPUT_SIDE, 3];
/// Operators that run the model.
///
/// Landmarks tolerate int8: `tests/fidelity.rs` compares them with f32.
pub const OPERATORS: Operators = Operators::FASTEST;
/// Number of landmarks. MediaPipe's order: the wrist, then four of each finger from base to tip,
/// thumb first.
pub const LANDMARKS: usize = 21;

/// Index of the wrist.
pub const WRIST: usize = 0;
/// Index of the index finger's base.
pub const INDEX_FINGER_BASE: usize = 5;
/// Index of the middle finger's base.
pub const MIDDLE_FINGER_BASE: usize = 9;
/// Index of the ring finger's base.
pub const RING_FINGER_BASE: usize = 13;

/// Indices of the landmarks that move little with the fingers; their box gives the region.
const STEADY: [usize; 12] = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18];
/// Size of the hand's region, in sizes of the steady landmarks' box (`scale_x`, `scale_y`).
const HAND_SCALE: f32 = 2.0;
/// Shift of the hand's region towards the fingers, in heights of that box (`shift_y`).
const HAND_SHIFT: f32 = -0.1;
/// Divisor of the model's z, which is in pixels of its input like x and y (`normalize_z`).
const Z_DIVISOR: f32 = 0.4;

/// The signer's own right or left hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handedness {
    /// The right hand.
    Right,
    /// The left hand.
    Left,
}

impl Handedness {
    /// Returns `Right` or `Left`, as MediaPipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Handedness::Right => "Right",
            Handedness::Left => "Left",
        }
    }
}

/// The landmark model's report of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Hand {
    /// The region that the model saw.
    pub region: Region,
    /// x, y and z of each landmark, in pixels of the photo. z is depth: 0 at the wrist, smaller
    /// towards the camera.
    pub landmarks: [[f32; 3]; LANDMARKS],
    /// Presence: the probability that the region holds a hand, 0 to 1.
    pub presence: f32,
    /// The likelier handedness.
    pub handedness: Handedness,
    /// Probability of that handedness, 0.5 to 1.
    pub handedness_score: f32,
    /// Pooled features: 1,152 values of the full model, 672 of the lite one. Those of a left hand
    /// differ from those of its mirror image.
    pub features: Vec<f32>,
}

/// Returns the shapes of the model's outputs: landmarks in pixels of the input, presence,
/// handedness, landmarks in metres, and `features` pooled features.
pub fn output_shapes(features: usize) -> [Vec<usize>; 5] {
    let points = 3 * LANDMARKS;
    [vec![1, points], vec![1, 1], vec![1, 1], vec![1, points], vec![1, features]]
}

/// Runs the landmark model on a region of a photo.
///
/// It reports a hand for every region; [`Hand::presence`] tells if there is one.
///
/// # Errors
/// [`ModelError::Run`] if the model fails, or its outputs have other lengths or are not finite.
pub fn find(model: &dyn Model, photo: &Photo, region: &Region) -> Result<Hand, ModelError> {
    let input = sample(photo, region, INPUT_SIDE, Border::Replicate);
    let wrong = || ModelError::Run {
        name: "hand landmarks".into(),
        reason: "outputs of other lengths, or not finite".into(),
    };
    let outputs: [Vec<f32>; 5] =
        model.run(Input::Pixels(input))?.try_into().map_err(|_| wrong())?;
    let [points, presence, right, world, features] = outputs;
    // The model's value is the probability of a right hand in a photo that is not mirrored. MediaPipe
    // calls it "Left", since it expects mirrored selfies.
    let (Some(&presence), Some(&right)) = (presence.first(), right.first()) else {
        return Err(wrong());
    };
    let values = [presence, right];
    let mut values = values.iter().chain(&points).chain(&world).chain(&features);
    let finite = values.all(|value| value.is_finite());
    if points.len() != 3 * LANDMARKS || world.len() != points.len() || !finite {
        return Err(wrong());
    }

    let side = INPUT_SIDE as f32;
    let landmarks = std::array::from_fn(|i| {
        let [x, y, z] = [points[3 * i], points[3 * i + 1], points[3 * i + 2]];
        let [x, y] = region.to_photo([x / side, y / side]);
        [x, y, z / side / Z_DIVISOR * region.size]
    });
    let (handedness, handedness_score) =
        if right >= 0.5 { (Handedness::Right, right) } else { (Handedness::Left, 1.0 - right) };
    Ok(Hand { region: *region, landmarks, presence, handedness, handedness_score, features })
}

/// Returns the region that landmarks give, which fits the hand more closely than its palm's.
///
/// Source: MediaPipe's `HandLandmarksToRectCalculator` and `RectTransformationCalculator`.
pub fn region_of(landmarks: &[[f32; 3]; LANDMARKS]) -> Region {
    let point = |i: usize| [landmarks[i][0], landmarks[i][1]];
    let mean = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let wrist = point(WRIST);
    let outer = mean(point(INDEX_FINGER_BASE), point(RING_FINGER_BASE));
    let bases = mean(outer, point(MIDDLE_FINGER_BASE));
    let rotation = upright_rotation(wrist, bases);
    let (sin, cos) = rotation.sin_cos();

    // The box in axes that are rotated with the hand.
    let mut min = [f32::INFINITY; 2];
    let mut max = [f32::NEG_INFINITY; 2];
    for [x, y] in STEADY.map(point) {
        let rotated = [cos * x + sin * y, cos * y - sin * x];
        for axis in 0..2 {
            min[axis] = min[axis].min(rotated[axis]);
            max[axis] = max[axis].max(rotated[axis]);
        }
    }
    let [u, v] = mean(min, max);
    let rectangle = Rectangle {
        center: [cos * u - sin * v, sin * u + cos * v],
        width: max[0] - min[0],
        height: max[1] - min[1],
    };
    Region::around(&rectangle, wrist, bases, HAND_SHIFT, HAND_SCALE)
}

#[cfg(test)]
mod tests {
    use std::f32::consts::FRAC_PI_2;
    use std::sync::Mutex;

    use super::*;

    /// A landmark model that returns these outputs and keeps its last input.
    struct Fake {
        outputs: [Vec<f32>; 5],
        input: Mutex<Option<Input>>,
    }

    impl Fake {
        /// All landmarks at one point of the input, in its pixels; presence 0.9.
        fn new(point: [f32; 3], right: f32) -> Fake {
            let world = vec![0.0; 3 * LANDMARKS];
            let outputs = [point.repeat(LANDMARKS), vec![0.9], vec![right], world, vec![0.25; 4]];
            Fake { outputs, input: Mutex::new(None) }
        }

        fn find(&self, region: &Region) -> Result<Hand, ModelError> {
            find(self, &half_white(), region)
        }
    }

    impl Model for Fake {
        fn run(&self, input: Input) -> Result<Vec<Vec<f32>>, ModelError> {
            *self.input.lock().expect("no panic") = Some(input);
            Ok(self.outputs.to_vec())
        }
    }

    /// 200 × 100 pixels: black on the left, white on the right.
    fn half_white() -> Photo {
        let row = [[0; 300], [255; 300]].concat();
        Photo::from_rgb(200, 100, row.repeat(100)).expect("a photo")
    }

    /// Half a pixel of the photo to each pixel of the input.
    const REGION: Region = Region { center: [100.0, 50.0], size: 112.0, rotation: 0.0 };

    #[test]
    fn landmarks_are_mapped_to_the_photo() {
        let quarter = Region { rotation: FRAC_PI_2, ..REGION };
        for (region, point, expected) in [
            (REGION, [112.0, 112.0], [100.0, 50.0]),
            (REGION, [0.0, 0.0], [44.0, -6.0]),
            (REGION, [224.0, 0.0], [156.0, -6.0]),
            // The input's right is the photo's down.
            (quarter, [224.0, 112.0], [100.0, 106.0]),
            (quarter, [0.0, 0.0], [156.0, -6.0]),
        ] {
            let hand = Fake::new([point[0], point[1], 0.0], 0.9).find(&region);
            let hand = hand.expect("a run");
            assert_eq!((hand.region, hand.presence), (region, 0.9));
            assert_eq!(hand.features, [0.25; 4]);
            for [x, y, z] in hand.landmarks {
                let near = (x - expected[0]).abs() < 1e-3 && (y - expected[1]).abs() < 1e-3;
                assert!(near && z == 0.0, "{point:?}: {x} {y} {z}");
            }
        }
    }

    #[test]
    fn each_landmark_is_mapped_by_itself() {
        let mut fake = Fake::new([0.0; 3], 0.9);
        fake.outputs[0] = (0..LANDMARKS).flat_map(|i| [2.0 * i as f32, 0.0, 0.0]).collect();
        let landmarks = fake.find(&REGION).expect("a run").landmarks;
        for (i, [x, _, _]) in landmarks.into_iter().enumerate() {
            assert!((x - (44.0 + i as f32)).abs() < 1e-3, "{i}: {x}");
        }
    }

    #[test]
    fn z_is_in_pixels_of_the_photo() {
        let hand = Fake::new([0.0, 0.0, -22.4], 0.9).find(&REGION).expect("a run");
        // A tenth of the input's side, divided by 0.4: a quarter of the region's.
        assert!((hand.landmarks[3][2] + 28.0).abs() < 1e-4, "{:?}", hand.landmarks[3]);
    }

    #[test]
    fn handedness_is_the_photo_s() {
        use Handedness::{Left, Right};
        for (right, expected) in
            [(0.75, (Right, 0.75)), (0.25, (Left, 0.75)), (0.5, (Right, 0.5)), (0.0, (Left, 1.0))]
        {
            let hand = Fake::new([0.0; 3], right).find(&REGION).expect("a run");
            assert_eq!((hand.handedness, hand.handedness_score), expected, "{right}");
        }
    }

    #[test]
    fn model_sees_the_edge_beyond_the_photo() {
        let fake = Fake::new([0.0; 3], 0.9);
        fake.find(&Region { size: 300.0, ..REGION }).expect("a run");
        let input = fake.input.into_inner().expect("no panic");
        let Some(Input::Pixels(pixels)) = input else { panic!("no pixels: {input:?}") };
        assert_eq!(pixels.len(), INPUT_SHAPE.iter().product::<usize>());
        for row in pixels.chunks(3 * INPUT_SIDE) {
            assert_eq!((row[0], row[3 * INPUT_SIDE - 1]), (0, 255));
        }
    }

    #[test]
    fn outputs_of_other_lengths_are_an_error() {
        for (output, length) in [(0, 62), (0, 64), (1, 0), (2, 0), (3, 62), (3, 64)] {
            let mut fake = Fake::new([0.0; 3], 0.9);
            fake.outputs[output].resize(length, 0.0);
            let error = fake.find(&REGION).expect_err("an error");
            assert!(matches!(error, ModelError::Run { .. }), "{output} {length}: {error}");
        }
    }

    #[test]
    fn other_numbers_of_outputs_are_an_error() {
        struct Outputs(Vec<Vec<f32>>);
        impl Model for Outputs {
            fn run(&self, _: Input) -> Result<Vec<Vec<f32>>, ModelError> {
                Ok(self.0.clone())
            }
        }
        let five = Fake::new([0.0; 3], 0.9).outputs.to_vec();
        let six = [five.as_slice(), &[vec![0.0]]].concat();
        let find = |outputs: &[Vec<f32>]| find(&Outputs(outputs.to_vec()), &half_white(), &REGION);
        assert!(find(&five).is_ok());
        assert!(find(&five[..4]).is_err());
        assert!(find(&six).is_err());
        assert!(find(&[]).is_err());
    }

    #[test]
    fn outputs_that_are_not_finite_are_an_error() {
        for value in [f32::NAN, f32::INFINITY] {
            for output in 0..5 {
                let mut fake = Fake::new([0.0; 3], 0.9);
                *fake.outputs[output].last_mut().expect("a value") = value;
                let error = fake.find(&REGION).expect_err("an error");
                assert!(error.to_string().contains("not finite"), "{output} {value}: {error}");
            }
        }
    }

    /// A hand that points up: wrist at (50, 100), finger bases at y = 50, a finger tip far away.
    fn upright_hand() -> [[f32; 3]; LANDMARKS] {
        let mut landmarks = [[50.0, 70.0, 0.0]; LANDMARKS];
        landmarks[WRIST] = [50.0, 100.0, 0.0];
        landmarks[INDEX_FINGER_BASE] = [40.0, 50.0, 0.0];
        landmarks[MIDDLE_FINGER_BASE] = [50.0, 50.0, 0.0];
        landmarks[RING_FINGER_BASE] = [60.0, 50.0, 0.0];
        landmarks[8] = [500.0, -500.0, 0.0];
        landmarks
    }

    #[test]
    fn region_of_an_upright_hand_surrounds_its_palm() {
        let region = region_of(&upright_hand());
        // The steady landmarks' box: 20 × 50 around (50, 75), shifted by a tenth of its height.
        assert!((region.center[0] - 50.0).abs() < 1e-4, "{region:?}");
        assert!((region.center[1] - 70.0).abs() < 1e-4, "{region:?}");
        assert!((region.size - 100.0).abs() < 1e-4, "{region:?}");
        assert!(region.rotation.abs() < 1e-6, "{region:?}");
    }

    #[test]
    fn region_of_a_rotated_hand_is_rotated() {
        // A quarter turn clockwise around the origin.
        let region = region_of(&upright_hand().map(|[x, y, z]| [-y, x, z]));
        assert!((region.center[0] + 70.0).abs() < 1e-3, "{region:?}");
        assert!((region.center[1] - 50.0).abs() < 1e-3, "{region:?}");
        assert!((region.size - 100.0).abs() < 1e-3, "{region:?}");
        assert!((region.rotation - FRAC_PI_2).abs() < 1e-6, "{region:?}");
    }
}
