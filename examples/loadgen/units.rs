//! Times and numbers as people write and read them.

use std::time::Duration;

/// Reads a time with its unit: `250us`, `1.5ms`, `10s`, `2m`. `None` if it is none.
pub(crate) fn parse_ns(text: &str) -> Option<u64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "ns" => 1.0,
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let ns = number * scale;
    (ns.is_finite() && (0.0..1e18).contains(&ns)).then_some(ns.round() as u64)
}

/// Reads a time; a number without unit means seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let ns = parse_ns(text).or_else(|| parse_ns(&format!("{text}s")));
    ns.map(Duration::from_nanos).ok_or_else(|| "write a time with its unit, as in 500ms or 10s".to_owned())
}

/// A time in the unit that fits it, with three or four digits.
pub(crate) fn time(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A number with a comma between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 flow`, `2 flows`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let plural = match number {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_units() {
        let cases =
            [("250us", 250_000), ("1.5ms", 1_500_000), ("10s", 10_000_000_000), ("3ns", 3), ("0ms", 0)];
        for (text, ns) in cases {
            assert_eq!(parse_ns(text), Some(ns), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1h", "1 000ms", "infs", "nans", "1e30s"] {
            assert_eq!(parse_ns(text), None, "{text}");
        }
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        assert!(parse_duration("soon").is_err());
    }

    #[test]
    fn times_and_numbers_are_short() {
        let shown = [999, 1_000, 12_340, 123_456, 1_500_000, 100_000_000, 2_000_000_000].map(time);
        assert_eq!(shown, ["999ns", "1us", "12.3us", "123us", "1.5ms", "100ms", "2s"]);
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "flow") + &counted(2_000, "flow"), "1 flow2,000 flows");
    }
}
