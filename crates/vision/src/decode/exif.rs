//! EXIF: how a photo is to be turned.

/// Tag of the orientation (EXIF 2.32, 4.6.4).
const ORIENTATION: u16 = 0x0112;
/// Length of an entry of a directory (TIFF 6.0, section 2).
const ENTRY: usize = 12;
/// The prefix of EXIF data in JPEG. Some programs also write it into PNG and WebP.
pub(super) const PREFIX: &[u8] = b"Exif\0\0";

/// Returns the orientation, 1 to 8, in EXIF data, with or without [`PREFIX`]. It is 1 if there is none,
/// or none that EXIF knows.
pub(super) fn orientation(data: &[u8]) -> u8 {
    let data = data.strip_prefix(PREFIX).unwrap_or(data);
    match stored_orientation(data) {
        Some(value @ 1..=8) => value as u8,
        _ => 1,
    }
}

/// Returns the value of the orientation in the first directory of TIFF data.
///
/// EXIF says that it is a SHORT. Some editors write another integer type.
fn stored_orientation(tiff: &[u8]) -> Option<u32> {
    let little_endian = match field::<4>(tiff, 0)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let short = |bytes: [u8; 2]| {
        if little_endian { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
    };
    let long = |bytes: [u8; 4]| {
        if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    };
    let directory = tiff.get(long(field(tiff, 4)?) as usize..)?;
    let count = short(field(directory, 0)?);
    let (entries, _) = directory.get(2..)?.as_chunks::<ENTRY>();
    let entry = entries
        .iter()
        .take(count.into())
        .find(|entry| field(*entry, 0).map(short) == Some(ORIENTATION))?;
    if long(field(entry, 4)?) != 1 {
        return None;
    }
    // Types of TIFF 6.0, section 2. A short value stands at the left of its four bytes.
    match short(field(entry, 2)?) {
        // BYTE, SBYTE
        1 | 6 => Some(entry[8].into()),
        // SHORT, SSHORT
        3 | 8 => Some(short(field(entry, 8)?).into()),
        // LONG, SLONG
        4 | 9 => Some(long(field(entry, 8)?)),
        _ => None,
    }
}

/// Returns the bytes at an offset.
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns EXIF data of one entry, in both byte orders.
    fn exif(tag: u16, kind: u16, count: u32, value: &[u8]) -> [Vec<u8>; 2] {
        [false, true].map(|little_endian| {
            let order = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                if little_endian {
                    bytes.reverse();
                }
                bytes
            };
            let mut data = if little_endian { b"II*\0".to_vec() } else { b"MM\0*".to_vec() };
            data.extend(order(&8u32.to_be_bytes()));
            data.extend(order(&1u16.to_be_bytes()));
            data.extend(order(&tag.to_be_bytes()));
            data.extend(order(&kind.to_be_bytes()));
            data.extend(order(&count.to_be_bytes()));
            data.extend(order(value));
            data.resize(26, 0);
            data
        })
    }

    #[test]
    fn orientation_of_any_integer_type_counts() {
        for orientation in 1..=8u8 {
            for (kind, value) in [
                (1, &[orientation][..]),
                (6, &[orientation]),
                (3, &[0, orientation]),
                (8, &[0, orientation]),
                (4, &[0, 0, 0, orientation]),
                (9, &[0, 0, 0, orientation]),
            ] {
                for data in exif(ORIENTATION, kind, 1, value) {
                    assert_eq!(super::orientation(&data), orientation, "type {kind}");
                    let prefixed = [PREFIX, &data].concat();
                    assert_eq!(super::orientation(&prefixed), orientation, "type {kind}");
                }
            }
        }
    }

    #[test]
    fn other_entries_leave_the_photo_as_it_is() {
        for (tag, kind, count, value) in [
            (ORIENTATION, 3, 1, &[0, 0][..]),
            (ORIENTATION, 3, 1, &[0, 9]),
            (ORIENTATION, 4, 1, &[1, 0, 0, 6]),
            // Two values, text, a fraction, another tag.
            (ORIENTATION, 3, 2, &[0, 6]),
            (ORIENTATION, 2, 1, b"6"),
            (ORIENTATION, 5, 1, &[0, 0, 0, 6]),
            (ORIENTATION + 1, 3, 1, &[0, 6]),
        ] {
            for data in exif(tag, kind, count, value) {
                assert_eq!(orientation(&data), 1, "{tag} {kind} {count} {value:?}");
            }
        }
    }

    #[test]
    fn cut_or_misleading_data_leaves_the_photo_as_it_is() {
        let [data, _] = exif(ORIENTATION, 3, 1, &[0, 6]);
        assert_eq!(orientation(&data), 6);
        for length in 0..22 {
            assert_eq!(orientation(&data[..length]), 1, "{length} bytes");
        }
        for offset in [9u32, 25, 26, 1000, u32::MAX] {
            let mut data = data.clone();
            data[4..8].copy_from_slice(&offset.to_be_bytes());
            assert_eq!(orientation(&data), 1, "directory at {offset}");
        }
    }
}
