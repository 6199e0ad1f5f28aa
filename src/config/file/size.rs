//! Sizes as people write them: `10MiB`, `200 MB`, `1.5GiB`, `4096`.

/// Units of 1000 and of 1024, as the standards have them.
const UNITS: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("kb", 1000),
    ("mb", 1000 * 1000),
    ("gb", 1000 * 1000 * 1000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
];

/// The most digits behind a point. More would not change a size by a byte.
const MAX_DECIMALS: usize = 9;

/// Returns the number of bytes, or `None` if the text is not a size. Fractions of a byte are dropped.
pub(super) fn parse(text: &str) -> Option<usize> {
    let text = text.trim().to_ascii_lowercase();
    let end = text.find(|char: char| !(char.is_ascii_digit() || "._".contains(char)));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
    let number = number.replace('_', "");
    let (whole, decimals) = number.split_once('.').unwrap_or((&number, "0"));
    if decimals.len() > MAX_DECIMALS {
        return None;
    }
    let unit = u128::from(*unit);
    let whole: u64 = whole.parse().ok()?;
    let part: u32 = decimals.parse().ok()?;
    let parts = 10_u128.pow(decimals.len() as u32);
    usize::try_from(u128::from(whole) * unit + u128::from(part) * unit / parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit_of_1000_or_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4_096 B", 4096),
            ("64kB", 64_000),
            ("64 KiB", 64 << 10),
            ("200MB", 200_000_000),
            ("10MiB", 10 << 20),
            ("1.5 GiB", 3 << 29),
            ("0.001kb", 1),
            (" 2gb ", 2_000_000_000),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in [
            "",
            "MiB",
            "-1",
            "ten",
            "10 M",
            "10 MiB/s",
            "1.2.3kB",
            ".5kB",
            "5.kB",
            "1.0000000001kB",
            "18446744073709551616",
            "18446744073709551615GiB",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
