//! Interval lines and the log of histograms: their sums are the run.

use std::path::Path;

use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

use super::meddler::Meddler;
use super::*;

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

fn assert_sums_are_the_run(lines: &[Value], json: &Value) {
    for name in ["sent", "received", "lost"] {
        let sum: u64 = lines.iter().map(|line| count(line, name)).sum();
        assert_eq!(sum, count(json, name), "{name} in {lines:?}");
    }
    let (mut end_ns, mut max) = (0, 0);
    for line in lines {
        assert_eq!(count(line, "start_ns"), end_ns, "no holes: {lines:?}");
        assert_eq!(count(line, "sent"), count(line, "received") + count(line, "lost"));
        end_ns += count(line, "length_ns");
        max = max.max(count(&line["latency_ns"], "max"));
    }
    assert_eq!(max, count(&json["latency_ns"], "max"));
}

/// The histograms of a log: how many values, and the greatest.
fn logged(path: &Path) -> (usize, u64, u64) {
    let bytes = std::fs::read(path).expect("the log");
    let (mut intervals, mut values, mut max) = (0, 0, 0);
    for entry in IntervalLogIterator::new(&bytes) {
        let LogEntry::Interval(interval) = entry.expect("the log's format") else { continue };
        let encoded = base64_decoded(interval.encoded_histogram());
        let histogram = Deserializer::new().deserialize::<u64, _>(&mut &encoded[..]).expect("a histogram");
        intervals += 1;
        values += histogram.len();
        max = max.max(histogram.max());
    }
    (intervals, values, max)
}

fn base64_decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|known| *known == digit).expect("base64");
        bits = (bits << 6 | value as u32) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[test]
fn the_sum_of_the_intervals_is_the_run() {
    for load in ["--rate 2000", "--window 2"] {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("latency.hlog");
        let (code, json, err) = run_json(&format!(
            "{load} --flows 8 --shards 2 --duration 500ms --warmup 50ms --interval 100ms --hdr-log {}",
            log.display()
        ));
        assert_eq!(code, 0, "{err}");
        let lines = json_lines(&err);
        assert!(lines.len() == 5 || lines.len() == 6, "{lines:?}");
        assert_sums_are_the_run(&lines, &json);
        assert_eq!(json["intervals"].as_array(), Some(&lines));
        let max = count(&json["latency_ns"], "max");
        assert_eq!(logged(&log), (lines.len(), count(&json, "received"), max));
    }
}

#[test]
fn what_is_lost_is_lost_in_the_interval_in_which_it_was_sent() {
    let server = Meddler::start();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("lines.json");
    std::fs::write(&file, "of an earlier run, and longer than a line would be\n".repeat(100)).expect("room");
    let (_, json, err) = run_json(&format!(
        "{} --flows 1 --rate 400 --duration 600ms --warmup 0s --timeout 400ms --interval 100ms --lines {}",
        server.address,
        file.display()
    ));
    let deeds = server.end();
    assert_eq!(err, "", "the lines are in the file");
    let lines = json_lines(&std::fs::read_to_string(&file).expect("the file"));
    assert_sums_are_the_run(&lines, &json);
    assert!(deeds.dropped > 10, "{deeds:?}");
    let lossy = lines.iter().filter(|line| count(line, "lost") > 0).count();
    assert!(lossy >= 2, "a fifth is lost all the time: {lines:?}");
}

#[test]
fn people_get_lines_before_the_table() {
    let output = run("--rate 1000 --flows 2 --duration 300ms --warmup 0s --interval 100ms");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut lines = out.lines();
    let heading: Vec<_> = lines.next().expect("a heading").split_whitespace().collect();
    assert_eq!(heading, ["until", "sent/s", "received/s", "lost", "p50", "p99", "max"]);
    let until: Vec<_> =
        lines.by_ref().take(3).map(|l| l.split_whitespace().next().map(str::to_owned)).collect();
    assert_eq!(until, ["100ms", "200ms", "300ms"].map(|text| Some(text.to_owned())), "{out}");
    assert_eq!(lines.next(), Some(""), "{out}");
    assert!(lines.next().is_some_and(|line| line.starts_with("embedded echo server")), "{out}");
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let short = "--flows 1 --rate 100 --duration 100ms --warmup 0s";
    for option in ["--hdr-log", "--lines", "--report"] {
        let output = run(&format!("{short} {option} /no/such/folder/file"));
        let err = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{err}");
        assert!(err.contains(&format!("{option} /no/such/folder/file cannot be opened")), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        if cfg!(target_os = "linux") {
            let output = run(&format!("{short} {option} /dev/full"));
            let err = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(err.contains(&format!("{option} /dev/full cannot be written")), "{err}");
            assert_eq!(err.lines().count(), 1, "{err}");
        }
    }
    let output = run("--interval 10ms --timeout 60s");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("take --interval 938ms or more"), "{err}");
}

#[test]
#[cfg(unix)]
fn the_last_interval_ends_where_an_interrupt_ended_the_run() {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};
    let arguments = "--duration 60s --warmup 0s --flows 4 --shards 2 --rate 1000 --json --interval 200ms";
    let piped = Stdio::piped;
    let mut child =
        program().args(arguments.split(' ')).stdout(piped()).stderr(piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill").success());
    let rest = lines.map(|line| line.expect("text"));
    let all = json_lines(&std::iter::once(first).chain(rest).collect::<Vec<_>>().join("\n"));
    let output = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert_sums_are_the_run(&all, &json);
    let last = all.last().expect("an interval");
    let end_ns = count(last, "start_ns") + count(last, "length_ns");
    assert_eq!(end_ns, count(&json, "elapsed_ns"), "{json}");
}
