//! What was measured, as bar charts.

use std::error::Error;
use std::path::{Path, PathBuf};

use plotters::prelude::*;

use super::client::{Latency, Outcome};
use super::contender::Contender;
use super::rounds::{Measured, Row};
use crate::figures::Quartiles;

const WIDTH: u32 = 900;
const BAR: u32 = 34;
const MARGIN: u32 = 150;
const OURS: RGBColor = RGBColor(0, 114, 178);
const OTHERS: RGBColor = RGBColor(150, 150, 150);

type Figure = fn(&Outcome) -> Option<f64>;

fn latency(outcome: &Outcome, of: fn(&Latency) -> u64) -> Option<f64> {
    outcome.latency.as_ref().map(|latency| of(latency) as f64 / 1e3)
}

/// What is drawn of each scenario: a word for the file name, a title, and the figure.
const CHARTS: [(&str, &str, Figure); 5] = [
    ("cpu", "server CPU per datagram, ns", |outcome| Some(outcome.cpu_ns)),
    ("pps", "datagrams a second", |outcome| Some(outcome.pps)),
    ("p50", "latency p50, us", |outcome| latency(outcome, |latency| latency.p50)),
    ("p99", "latency p99, us", |outcome| latency(outcome, |latency| latency.p99)),
    ("p999", "latency p99.9, us", |outcome| latency(outcome, |latency| latency.p999)),
];

/// Draws all scenarios into a folder; says which files.
///
/// # Errors
/// If the folder or a file cannot be written.
pub fn draw(folder: &Path, all: &[Measured]) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for measured in all {
        for (word, title, figure) in CHARTS {
            let bars = |row: &Row| Some((row.contender, row.quartiles(figure)?));
            // The first at the top.
            let bars: Vec<_> = measured.rows.iter().rev().filter_map(bars).collect();
            if bars.is_empty() {
                continue; // no latency in a sink
            }
            let path = folder.join(format!("{}-{word}.svg", measured.scenario.name()));
            chart(&path, &format!("{}: {title}", measured.scenario.name()), &bars)?;
            files.push(path);
        }
    }
    Ok(files)
}

/// Horizontal bars of the medians, with a line from the first to the third quartile.
fn chart(path: &Path, title: &str, bars: &[(&'static str, Quartiles)]) -> Result<(), Box<dyn Error>> {
    let height = 90 + BAR * bars.len() as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = bars.iter().map(|(_, figures)| figures.spread().1).fold(f64::MIN_POSITIVE, f64::max);
    let names: Vec<_> = bars.iter().map(|(name, _)| *name).collect();
    let name = |at: &i32| {
        let name = usize::try_from(*at).ok().and_then(|at| names.get(at)).copied().unwrap_or_default();
        Contender::named(name).map_or_else(String::new, |contender| contender.label.to_owned())
    };
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(10)
        .margin_right(40)
        .x_label_area_size(30)
        .y_label_area_size(MARGIN)
        .build_cartesian_2d(0.0..most * 1.15, (0..bars.len() as i32 - 1).into_segmented())?;
    let label = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(at) => name(at),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len() + 1)
        .y_label_formatter(&label)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (at, (contender, figures)) in bars.iter().enumerate() {
        let at = at as i32;
        let colour = if contender.starts_with("shardgram-") { OURS } else { OTHERS };
        let corners = [(0.0, SegmentValue::Exact(at)), (figures.median(), SegmentValue::Exact(at + 1))];
        let mut bar = Rectangle::new(corners, colour.filled());
        bar.set_margin(6, 6, 0, 0);
        chart.draw_series([bar])?;
        let (low, high) = figures.spread();
        let middle = SegmentValue::CenterOf(at);
        chart.draw_series([PathElement::new(vec![(low, middle.clone()), (high, middle.clone())], BLACK)])?;
        let text = if figures.median() < 100.0 { 1 } else { 0 };
        let text = format!("{:.text$}", figures.median());
        chart.draw_series([Text::new(text, (high + most * 0.01, middle), ("sans-serif", 13))])?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::pps::report::tests::{measured, row};

    #[test]
    fn every_figure_is_drawn() {
        let folder = tempfile::tempdir().expect("a folder");
        let rows = vec![row("shardgram-uring-listener", &[100.0, 110.0]), row("tokio", &[3000.0, 3100.0])];
        let files = super::draw(folder.path(), &[measured(rows)]).expect("it is drawn");
        assert_eq!(files.len(), super::CHARTS.len());
        for file in files {
            let text = std::fs::read_to_string(file).expect("a file");
            assert!(text.starts_with("<svg") && text.contains("shardgram uring listener"), "{text}");
        }
    }
}
