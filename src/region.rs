//! A hand's box: in the answer, and in the question about a film's next frame.
//!
//! A caller that films sends the box of the answer before, `POST /predict?box=x,y,width,height,rotation`.
//! The hand is looked for there first. Nothing is kept between requests: the caller is the memory.

use serde::Serialize;

use vision::decode::Photo;
use vision::region::Region;

use crate::problem::Problem;

/// The query's parameter.
pub const PARAMETER: &str = "box";
/// Largest distance of a box from the photo, and its largest side, in sides of the photo. A hand beyond it
/// is none that the photo shows.
const FARTHEST: f32 = 4.0;

/// A region of the photo. It is square in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RegionInPhoto {
    /// Left edge before rotation, as a fraction of the photo's width.
    pub x: f32,
    /// Upper edge before rotation, as a fraction of the photo's height.
    pub y: f32,
    /// Width, as a fraction of the photo's width.
    pub width: f32,
    /// Height, as a fraction of the photo's height.
    pub height: f32,
    /// Clockwise rotation around the centre, in radians.
    pub rotation: f32,
}

impl RegionInPhoto {
    /// Returns a region of a photo in fractions of its sides.
    pub fn new(photo: &Photo, region: &Region) -> RegionInPhoto {
        let [width, height] = [photo.width() as f32, photo.height() as f32];
        RegionInPhoto {
            x: (region.center[0] - region.size / 2.0) / width,
            y: (region.center[1] - region.size / 2.0) / height,
            width: region.size / width,
            height: region.size / height,
            rotation: region.rotation,
        }
    }

    /// Returns the region in pixels of a photo. A box that is no square there gets its longer side.
    pub fn of(&self, photo: &Photo) -> Region {
        let [width, height] = [photo.width() as f32, photo.height() as f32];
        Region {
            center: [(self.x + self.width / 2.0) * width, (self.y + self.height / 2.0) * height],
            size: (self.width * width).max(self.height * height),
            rotation: self.rotation,
        }
    }

    /// Reads the parameter `box` of a query; `None` without it or with an empty one.
    ///
    /// # Errors
    /// [`Problem::Region`] if it is no box, or one that is far from the photo.
    pub fn read(query: Option<&str>) -> Result<Option<RegionInPhoto>, Problem> {
        let mut parameters = query.unwrap_or_default().split('&').filter_map(|p| p.split_once('='));
        match parameters.find(|(name, _)| *name == PARAMETER) {
            None | Some((_, "")) => Ok(None),
            Some((_, value)) => RegionInPhoto::parse(value).map(Some).ok_or(Problem::Region),
        }
    }

    fn parse(value: &str) -> Option<RegionInPhoto> {
        // Clients encode the comma; the numbers have nothing to encode.
        let value = value.replace("%2C", ",").replace("%2c", ",");
        let numbers: Vec<f32> =
            value.split(',').map(|number| number.trim().parse().ok()).collect::<Option<_>>()?;
        let (x, y, width, height, rotation) = match *numbers.as_slice() {
            [x, y, width, height] => (x, y, width, height, 0.0),
            [x, y, width, height, rotation] => (x, y, width, height, rotation),
            _ => return None,
        };
        let near = |number: f32| (-FARTHEST..=FARTHEST).contains(&number);
        let valid =
            [x, y, width, height, rotation].into_iter().all(near) && width > 0.0 && height > 0.0;
        valid.then_some(RegionInPhoto { x, y, width, height, rotation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Option<RegionInPhoto>, Problem> {
        RegionInPhoto::read(Some(query))
    }

    #[test]
    fn box_is_read_from_the_query() {
        let expected = RegionInPhoto { x: 0.25, y: -0.1, width: 0.5, height: 1.0, rotation: 0.0 };
        for query in
            ["box=0.25,-0.1,0.5,1", "a=b&box=0.25%2C-0.1%2c0.5,1.0&box=7", "box=.25,-1e-1,.5,1,0"]
        {
            assert_eq!(read(query).expect(query), Some(expected), "{query}");
        }
        let turned = read("box=0,0,1,1,-0.5").expect("a box").expect("a box");
        assert_eq!(turned.rotation, -0.5);
    }

    #[test]
    fn query_without_a_box_has_none() {
        assert_eq!(RegionInPhoto::read(None).expect("none"), None);
        for query in ["", "box", "box=", "boxes=1", "a=1&b=2"] {
            assert_eq!(read(query).expect(query), None, "{query}");
        }
    }

    #[test]
    fn box_that_makes_no_sense_is_refused() {
        for query in [
            "box=1",
            "box=a,b,c,d",
            "box=0,0,1",
            "box=0,0,1,1,0,0",
            "box=0,0,0,1",
            "box=0,0,1,-1",
            "box=NaN,0,1,1",
            "box=0,inf,1,1",
            "box=0,0,99,1",
            "box=0,0,1,1,9",
            "box=0,,1,1",
        ] {
            assert!(matches!(read(query), Err(Problem::Region)), "{query}");
        }
    }

    #[test]
    fn box_of_an_answer_leads_back_to_its_region() {
        let photo = Photo::from_rgb(200, 100, vec![0; 200 * 100 * 3]).expect("a photo");
        let region = Region { center: [70.0, 40.0], size: 50.0, rotation: 0.25 };
        assert_eq!(RegionInPhoto::new(&photo, &region).of(&photo), region);
    }
}
