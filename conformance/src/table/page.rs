//! The table as a page to read.

use std::fmt::Write;

use super::Expected::{self, No, Partly, Yes};
use super::{CAPABILITIES, Driver, ELSEWHERE, Elsewhere, PLATFORMS, ROWS, of_behaviour};
use crate::SUITE;

/// The table as Markdown.
///
/// ```
/// assert!(shardgram_conformance::table::markdown().contains("| `accept` |"));
/// ```
pub fn markdown() -> String {
    let mut page = Page::default();
    page.text("## What each driver can do\n");
    page.head(&["capability"]);
    for (capability, cells) in CAPABILITIES {
        page.row(&[capability.to_string()], cells);
    }
    page.notes();
    page.text("## The behaviours of the suite\n");
    page.head(&["behaviour", "what it shows", "tests"]);
    for row in ROWS {
        let tests = SUITE.iter().find(|of| of.name == row.behaviour).map_or(0, |of| of.cases.len());
        let names = [format!("`{}`", row.behaviour), row.shows.to_owned(), tests.to_string()];
        page.row(&names, PLATFORMS.map(|platform| of_behaviour(row.behaviour, platform)));
    }
    page.notes();
    page.text("## Shown elsewhere\n");
    page.text("On Linux, with what only a kernel, a namespace or another process has.\n");
    page.text("| test | what it shows | drivers |\n| --- | --- | --- |");
    for Elsewhere { file, shows, drivers } in ELSEWHERE {
        let drivers: Vec<_> = drivers.iter().map(Driver::to_string).collect();
        page.text(&format!("| `{file}` | {shows} | {} |", drivers.join(", ")));
    }
    page.text
}

/// A page that is being written, with the notes of its last table.
#[derive(Default)]
struct Page {
    text: String,
    notes: Vec<&'static str>,
}

impl Page {
    fn text(&mut self, text: &str) {
        let _ = writeln!(self.text, "{text}");
    }

    fn head(&mut self, names: &[&str]) {
        let platforms = PLATFORMS.map(|platform| platform.to_string());
        let names: Vec<_> = names.iter().copied().chain(platforms.iter().map(String::as_str)).collect();
        self.text(&format!("| {} |\n|{}", names.join(" | "), " --- |".repeat(names.len())));
    }

    fn row(&mut self, names: &[String], cells: [Expected; 7]) {
        let cells = cells.map(|cell| {
            let word = match cell {
                Yes => return "yes".to_owned(),
                Partly(_) => "partly",
                No(_) => "no",
            };
            let note = cell.note().unwrap_or_default();
            let number = self.notes.iter().position(|known| *known == note).unwrap_or_else(|| {
                self.notes.push(note);
                self.notes.len() - 1
            });
            format!("{word} ({})", number + 1)
        });
        self.text(&format!("| {} | {} |", names.join(" | "), cells.join(" | ")));
    }

    fn notes(&mut self) {
        self.text("");
        for (number, note) in (1..).zip(std::mem::take(&mut self.notes)) {
            self.text(&format!("{number}. {note}"));
        }
        self.text("");
    }
}
