//! The log of interval histograms in the V2 format that HdrHistogram's tools read.

use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError};

use super::series::Point;

const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

pub(crate) struct HdrLog {
    file: File,
    serializer: V2DeflateSerializer,
}

impl HdrLog {
    pub(crate) fn new(file: File) -> Self {
        Self { file, serializer: V2DeflateSerializer::new() }
    }

    /// What comes before the histograms, whose times count from `start`.
    pub(crate) fn begin(&mut self, start: SystemTime) -> io::Result<()> {
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[latency in ns of the datagrams sent in each interval, from when they were due]")
            .with_start_time(start)
            .with_base_time(start)
            .begin_log_with(&mut self.file, &mut self.serializer)?;
        writeln!(self.file, "{LEGEND}")
    }

    pub(crate) fn write(&mut self, point: &Point, latency: &Histogram<u64>) -> Result<(), String> {
        let [start, length] = [point.start_ns, point.length_ns].map(Duration::from_nanos);
        // A builder without any header writes nothing of its own, so each line may have one.
        let written = IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map_err(IntervalLogWriterError::IoError)
            .and_then(|mut log| log.write_histogram(latency, start, length, None));
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error.to_string(),
            other => other.to_string(),
        })
    }
}
