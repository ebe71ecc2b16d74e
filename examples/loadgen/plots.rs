//! Plots as SVG, whose colours are those of the page around them.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

/// In pixels of the drawing, which grows and shrinks with the page.
const SIZE: (u32, u32) = (760, 260);
/// Points are marked where there are no more of them than this.
const MOST_MARKED: usize = 64;
/// Stand for the page's colours: `--ink`, `--grid`, and `--s0` and so on.
const INK: RGBColor = RGBColor(1, 0, 100);
const GRID: RGBColor = RGBColor(1, 0, 101);
/// Lines in one plot; the page has so many colours for them.
pub(crate) const MOST_SERIES: usize = 9;

/// What an axis measures, and how.
pub(crate) struct Axis {
    pub(crate) name: &'static str,
    /// By powers of ten; what is not above 0 then stands at the lowest.
    pub(crate) logarithmic: bool,
    /// Where ticks are to be, if not where numbers are round.
    pub(crate) ticks: Option<Vec<f64>>,
    pub(crate) label: fn(f64) -> String,
}

pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) series: Vec<Series>,
}

impl Plot {
    /// The picture, `None` if there is nothing to see.
    pub(crate) fn svg(&self) -> Option<String> {
        let x = Scale::new(&self.x, self.series.iter().flat_map(|s| s.points.iter().map(|p| p.0)))?;
        let y = Scale::new(&self.y, self.series.iter().flat_map(|s| s.points.iter().map(|p| p.1)))?;
        let mut svg = String::new();
        self.draw(&mut svg, &x, &y).ok()?;
        Some(in_the_pages_colours(&svg, self.title))
    }

    fn draw(&self, svg: &mut String, x: &Scale, y: &Scale) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(10)
            .margin_right(24)
            .x_label_area_size(40)
            .y_label_area_size(84)
            .build_cartesian_2d(x.clone(), y.clone())
            .map_err(|error| error.to_string())?;
        let text = ("sans-serif", 13).into_font().color(&INK);
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(GRID)
            .label_style(text.clone())
            .axis_desc_style(text)
            .x_labels(x.ticks.len().max(1))
            .y_labels(y.ticks.len().max(1))
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .x_label_formatter(&|at| (self.x.label)(*at))
            .y_label_formatter(&|at| (self.y.label)(*at))
            .draw()
            .map_err(|error| error.to_string())?;
        for (index, series) in self.series.iter().take(MOST_SERIES).enumerate() {
            let color = RGBColor(1, 0, index as u8);
            if series.points.len() <= MOST_MARKED {
                let marks = series.points.iter().map(|point| Circle::new(*point, 2, color.filled()));
                chart.draw_series(marks).map_err(|error| error.to_string())?;
            }
            let line = LineSeries::new(series.points.iter().copied(), color.stroke_width(2));
            chart.draw_series(line).map_err(|error| error.to_string())?;
        }
        root.present().map_err(|error| error.to_string())?;
        Ok(())
    }
}

/// Where values stand on an axis.
#[derive(Clone)]
struct Scale {
    /// The ends, and the ticks between them: of the values, or of their logarithms.
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    logarithmic: bool,
}

impl Scale {
    /// For these values; `None` if there are none to be shown.
    fn new(axis: &Axis, values: impl Iterator<Item = f64>) -> Option<Self> {
        let logarithmic = axis.logarithmic;
        let place = |value: f64| if logarithmic { value.log10() } else { value };
        let shown = values.filter(|value| value.is_finite() && (!logarithmic || *value > 0.0)).map(place);
        let ends = (f64::INFINITY, f64::NEG_INFINITY);
        let (mut low, mut high) = shown.fold(ends, |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        if !logarithmic {
            low = low.min(0.0);
        }
        if high - low < 1e-9 {
            high += if logarithmic { 0.5 } else { high.abs().max(1.0) };
        }
        let margin = if axis.ticks.is_some() { 0.0 } else { (high - low) * 0.04 };
        (low, high) = (if logarithmic { low - margin } else { low }, high + margin);
        let ticks = match &axis.ticks {
            Some(ticks) => ticks.iter().map(|tick| place(*tick)).collect(),
            None if logarithmic => log_ticks(low, high),
            None => round_ticks(low, high),
        };
        let ticks = ticks.into_iter().filter(|tick| (low..=high).contains(tick)).collect();
        Some(Self { low, high, ticks, logarithmic })
    }

    fn value(&self, place: f64) -> f64 {
        if self.logarithmic { 10_f64.powf(place) } else { place }
    }
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let place = if self.logarithmic { value.log10() } else { *value };
        let part = if place.is_finite() { (place - self.low) / (self.high - self.low) } else { 0.0 };
        from + (part.clamp(0.0, 1.0) * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|tick| self.value(*tick)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.value(self.low)..self.value(self.high)
    }
}

/// Some five multiples of 1, 2 or 5 times a power of ten.
fn round_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough).unwrap_or(rough);
    let first = (low / step).ceil() as i64;
    (first..first + 12).map(|n| n as f64 * step).take_while(|tick| *tick <= high).collect()
}

/// Powers of ten, and 2 and 5 times these where there are few.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let multiples: &[f64] = if high - low > 2.5 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = low.floor() as i32..=high.ceil() as i32;
    decades.flat_map(|decade| multiples.iter().map(move |n| f64::from(decade) + n.log10())).collect()
}

/// Puts the page's colours in the places of those that stand for them, and has the picture fit its column.
fn in_the_pages_colours(svg: &str, title: &str) -> String {
    let mut svg = svg.to_owned();
    let stands_for = |color: RGBColor| format!("\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
    svg = svg.replace(&stands_for(INK), "\"var(--ink)\"").replace(&stands_for(GRID), "\"var(--grid)\"");
    for index in 0..MOST_SERIES {
        svg = svg.replace(&stands_for(RGBColor(1, 0, index as u8)), &format!("\"var(--s{index})\""));
    }
    let (width, height) = SIZE;
    svg.replacen(
        &format!("<svg width=\"{width}\" height=\"{height}\""),
        &format!("<svg role=\"img\" aria-label=\"{title}\""),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(logarithmic: bool, points: Vec<(f64, f64)>) -> Plot {
        let axis = |logarithmic| Axis {
            name: "n",
            logarithmic,
            ticks: None,
            label: |value| format!("<{value:.0}>"),
        };
        let series = vec![Series { name: "s".to_owned(), points }];
        Plot { title: "a plot", x: axis(false), y: axis(logarithmic), series }
    }

    #[test]
    fn a_plot_is_drawn_in_the_pages_colours() {
        for logarithmic in [false, true] {
            let svg =
                plot(logarithmic, vec![(0.0, 10.0), (1.0, 1_000.0), (2.0, 0.0)]).svg().expect("a picture");
            for part in ["var(--s0)", "var(--ink)", "var(--grid)", "aria-label=\"a plot\"", "&lt;100"] {
                assert!(svg.contains(part), "{part} in {svg}");
            }
            assert!(!svg.contains("\"#0100") && svg.trim_end().ends_with("</svg>"), "{svg}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert!(plot(false, Vec::new()).svg().is_none());
        assert!(plot(true, vec![(0.0, 0.0)]).svg().is_none(), "no logarithm");
        assert!(plot(false, vec![(0.0, f64::NAN)]).svg().is_none());
        assert!(
            plot(false, vec![(0.0, 0.0)]).svg().is_some() && plot(true, vec![(5.0, 7.0)]).svg().is_some()
        );
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(round_ticks(0.0, 10.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_ticks(0.0, 273_000.0), [0.0, 100_000.0, 200_000.0]);
        assert!((3..=12).contains(&round_ticks(0.0, 1e-3).len()));
        assert_eq!(log_ticks(3.0, 6.0).len(), 4);
    }
}
