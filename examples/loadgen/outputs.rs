//! Where results go beside the table: interval lines and files. All are opened before anything is sent.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::time::SystemTime;

use hdrhistogram::Histogram;

use super::hdr_log::HdrLog;
use super::html::Page;
use super::json;
use super::options::Options;
use super::series::Point;
use super::table;

/// Standard output, standard error, or a file, with the name it has in errors.
struct Sink {
    name: String,
    to: Box<dyn Write>,
}

impl Sink {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let written = writeln!(self.to, "{line}").and_then(|()| self.to.flush());
        written.map_err(|error| cannot_write(&self.name, &error))
    }
}

pub(crate) fn cannot_write(name: &str, error: &io::Error) -> String {
    format!("{name} cannot be written ({error}); see where it is and what room is left")
}

/// Writes a result to standard output.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| cannot_write("standard output", &error))
}

/// Opens a file for writing. What is in it stays until there is something to write instead.
fn open(option: &str, path: &str) -> Result<File, String> {
    // Not truncated: a run that is refused for another reason leaves an older result alone.
    let opened = OpenOptions::new().write(true).create(true).truncate(false).open(path);
    opened.map_err(|error| {
        format!(
            "{option} {path} cannot be opened for writing ({error}); name a file in a folder you may write to"
        )
    })
}

/// Empties what is a file; devices and pipes have nothing to empty.
fn empty(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

pub(crate) struct Outputs {
    text: Option<Sink>,
    json: Option<Sink>,
    hdr_log: Option<(String, HdrLog)>,
    lines_file: Option<(String, File)>,
    hdr_file: Option<(String, File)>,
    report: Option<(String, File)>,
    headed: bool,
}

impl std::fmt::Debug for Outputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outputs").finish_non_exhaustive()
    }
}

impl Outputs {
    /// Opens what the options name.
    pub(crate) fn open(options: &Options) -> Result<Self, String> {
        let file = |option: &str, path: &Option<String>| -> Result<_, String> {
            let Some(path) = path else { return Ok(None) };
            Ok(Some((format!("{option} {path}"), open(option, path)?)))
        };
        let to = |name: &str, to: Box<dyn Write>| Sink { name: name.to_owned(), to };
        let lines = options.interval.is_some();
        // A table of a ramp without its intervals would say nothing.
        let table_needs_lines = options.ramp.is_some();
        Ok(Self {
            text: ((lines || table_needs_lines) && !options.json)
                .then(|| to("standard output", Box::new(io::stdout()))),
            json: (lines && options.json && options.lines.is_none())
                .then(|| to("standard error", Box::new(io::stderr()))),
            hdr_log: None,
            lines_file: file("--lines", &options.lines)?,
            hdr_file: file("--hdr-log", &options.hdr_log)?,
            report: file("--report", &options.report)?,
            headed: false,
        })
    }

    /// Nothing stands in the way of the run any more; it begins to count at `start`.
    pub(crate) fn begin(&mut self, start: SystemTime) -> Result<(), String> {
        if let Some((name, file)) = self.lines_file.take() {
            empty(&file).map_err(|error| cannot_write(&name, &error))?;
            self.json = Some(Sink { name, to: Box::new(file) });
        }
        if let Some((name, file)) = self.hdr_file.take() {
            let emptied = empty(&file);
            let mut log = HdrLog::new(file);
            emptied.and_then(|()| log.begin(start)).map_err(|error| cannot_write(&name, &error))?;
            self.hdr_log = Some((name, log));
        }
        Ok(())
    }

    /// Whether lines are shown while it runs.
    pub(crate) fn shows_lines(&self) -> bool {
        self.text.is_some() || self.json.is_some()
    }

    /// Tells of one interval.
    pub(crate) fn interval(&mut self, point: &Point, latency: &Histogram<u64>) -> Result<(), String> {
        if let Some(text) = &mut self.text {
            if !self.headed {
                self.headed = true;
                text.line(&table::interval_heading())?;
            }
            text.line(&table::interval(point))?;
        }
        if let Some(json) = &mut self.json {
            json.line(&json::interval(point).to_string())?;
        }
        if let Some((name, log)) = &mut self.hdr_log {
            log.write(point, latency)
                .map_err(|error| format!("{name} cannot be written ({error}); see what room is left"))?;
        }
        Ok(())
    }

    /// Writes the report, if one is wanted.
    pub(crate) fn report(&mut self, page: impl FnOnce() -> Page) -> Result<(), String> {
        let Some((name, mut file)) = self.report.take() else { return Ok(()) };
        let written = empty(&file).and_then(|()| file.write_all(page().html().as_bytes()));
        written.map_err(|error| cannot_write(&name, &error))
    }

    /// An empty line between the intervals and the table.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        match &mut self.text {
            Some(text) if self.headed => text.line(""),
            _ => Ok(()),
        }
    }
}
