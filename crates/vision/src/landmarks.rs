//! Hand landmarks: 21 points of the hand in a region of interest, whether there is a hand at all
//! (presence), which one it is (handedness), and what the model saw on its way (features).

use crate::decode::Photo;
use crate::engine::{Input, Model, ModelError, Operators};
use kernels::pointwise::Precision;
use crate::region::{Border, Rectangle, Region, sample, upright_rotation};

/// Width and height of the model's input.
pub const INPUT_SIDE: usize = 224;
/// Shape of the model's input: one picture, channels last, RGB 0 to 1.
pub const INPUT_SHAPE: [usize; 4] = [1, INPUT_SIDE, INPUT_SIDE, 3];
/// What runs the model. Measured: in 8 bits the landmarks of the test photos move by 0.5 % of the
/// palm's length on average against 32-bit floats, those of the lite model by 0.7 %. Without
/// `relaxed-simd` they would be slower than 16 bits: 11 GMAC/s against 36.
pub const OPERATORS: Operators =
    Operators::Own(if cfg!(all(target_family = "wasm", not(target_feature = "relaxed-simd"))) {
        Precision::Sixteen
    } else {
        Precision::Eight
    });
/// The number of landmarks, in MediaPipe's order: wrist, then four of each finger from its base to
/// its tip, thumb first.
pub const LANDMARKS: usize = 21;

/// The landmark of the wrist.
pub const WRIST: usize = 0;
/// The landmark of the index finger's base.
pub const INDEX_FINGER_BASE: usize = 5;
/// The landmark of the middle finger's base.
pub const MIDDLE_FINGER_BASE: usize = 9;
/// The landmark of the ring finger's base.
pub const RING_FINGER_BASE: usize = 13;

/// The landmarks that don't move much with the fingers: they give the region
/// (`hand_landmark_landmarks_to_roi.pbtxt`).
const STEADY: [usize; 12] = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18];
/// From the steady landmarks' box to the hand's region (`hand_landmark_landmarks_to_roi.pbtxt`).
const HAND_SCALE: f32 = 2.0;
const HAND_SHIFT: f32 = -0.1;
/// The model's z is in the same unit as its x and y; MediaPipe then divides by this
/// (`normalize_z`).
const Z_DIVISOR: f32 = 0.4;

/// A hand, right or left: the signer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handedness {
    /// The right hand.
    Right,
    /// The left hand.
    Left,
}

impl Handedness {
    /// `Right` or `Left`, as MediaPipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Handedness::Right => "Right",
            Handedness::Left => "Left",
        }
    }
}

/// What the landmark model says of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Hand {
    /// The region that was looked at.
    pub region: Region,
    /// x, y in pixels of the photo; z in pixels too, smaller is nearer to the camera, 0 at the
    /// wrist.
    pub landmarks: [[f32; 3]; LANDMARKS],
    /// The probability that there is a hand in the region, 0 to 1.
    pub presence: f32,
    /// Which hand it is.
    pub handedness: Handedness,
    /// The probability of that, 0.5 to 1.
    pub handedness_score: f32,
    /// Whether the model saw the region mirrored.
    pub mirrored: bool,
    /// The model's own features after its global average pooling: 1,152 numbers of the full
    /// model, 672 of the lite one.
    pub features: Vec<f32>,
}

/// Shapes of the model's outputs: landmarks in pixels of the input, presence, handedness,
/// landmarks in metres, features.
pub fn output_shapes(features: usize) -> [Vec<usize>; 5] {
    let points = 3 * LANDMARKS;
    [vec![1, points], vec![1, 1], vec![1, 1], vec![1, points], vec![1, features]]
}

/// Looks for a hand in a region.
///
/// With `mirror` the model gets to see the region mirrored; what is returned is as in the photo
/// either way, the features apart.
///
/// # Errors
/// [`ModelError::Run`].
pub fn find(
    model: &dyn Model,
    photo: &Photo,
    region: &Region,
    mirror: bool,
) -> Result<Hand, ModelError> {
    let input = sample(photo, region, INPUT_SIDE, Border::Replicate, mirror);
    let wrong = || ModelError::Run {
        name: "hand landmarks".into(),
        reason: "outputs of other sizes, or not finite".into(),
    };
    let outputs: [Vec<f32>; 5] =
        model.run(Input::Picture(input))?.try_into().map_err(|_| wrong())?;
    let [points, presence, handedness, world, features] = outputs;
    let (Some(&presence), Some(&handedness)) = (presence.first(), handedness.first()) else {
        return Err(wrong());
    };
    let finite = points.iter().chain(&world).chain(&features).all(|value| value.is_finite());
    if points.len() != 3 * LANDMARKS || world.len() != points.len() || !finite {
        return Err(wrong());
    }

    let side = INPUT_SIDE as f32;
    let landmarks = std::array::from_fn(|i| {
        let [x, y, z] = [points[3 * i], points[3 * i + 1], points[3 * i + 2]];
        let u = if mirror { 1.0 - x / side } else { x / side };
        let [x, y] = region.to_photo([u, y / side]);
        [x, y, z / side / Z_DIVISOR * region.size]
    });
    // The model's own number is the probability of a right hand in a photo that is not mirrored
    // (MediaPipe calls it "Left", since it takes its pictures for selfies).
    let right = if mirror { 1.0 - handedness } else { handedness };
    let (handedness, handedness_score) =
        if right >= 0.5 { (Handedness::Right, right) } else { (Handedness::Left, 1.0 - right) };
    Ok(Hand {
        region: *region,
        landmarks,
        presence,
        handedness,
        handedness_score,
        mirrored: mirror,
        features,
    })
}

/// The region of interest that landmarks give: nearer to the hand than the palm's.
///
/// MediaPipe's `HandLandmarksToRect` and `RectTransformation` calculators.
pub fn region_of(landmarks: &[[f32; 3]; LANDMARKS]) -> Region {
    let point = |i: usize| [landmarks[i][0], landmarks[i][1]];
    let middle = |a: [f32; 2], b: [f32; 2]| [(a[0] + b[0]) / 2.0, (a[1] + b[1]) / 2.0];
    let wrist = point(WRIST);
    let bases = middle(
        middle(point(INDEX_FINGER_BASE), point(RING_FINGER_BASE)),
        point(MIDDLE_FINGER_BASE),
    );
    let rotation = upright_rotation(wrist, bases);
    let (sin, cos) = rotation.sin_cos();

    // The box in axes that are turned with the hand.
    let mut least = [f32::INFINITY; 2];
    let mut most = [f32::NEG_INFINITY; 2];
    for [x, y] in STEADY.map(point) {
        let turned = [cos * x + sin * y, cos * y - sin * x];
        for axis in 0..2 {
            least[axis] = least[axis].min(turned[axis]);
            most[axis] = most[axis].max(turned[axis]);
        }
    }
    let [u, v] = middle(least, most);
    let rectangle = Rectangle {
        center: [cos * u - sin * v, sin * u + cos * v],
        width: most[0] - least[0],
        height: most[1] - least[1],
    };
    Region::around(&rectangle, wrist, bases, HAND_SHIFT, HAND_SCALE)
}
