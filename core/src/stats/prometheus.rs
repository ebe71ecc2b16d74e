//! Counters in the text format of Prometheus.

use crate::stats::Snapshot;

/// Those that fall as well as rise, or are no sum.
const GAUGES: [&str; 5] = ["held_back", "send_waiting", "listeners_deaf", "foreign_sockets", "longest_turn"];

impl Snapshot {
    /// All counters in the text format of Prometheus (version 0.0.4, `text/plain; version=0.0.4`), each as `shardgram_` with its
    /// name. Refusals are one counter with the label `reason`. `held_back`, `send_waiting`, `listeners_deaf`, `foreign_sockets`,
    /// `peers` and `connected` are gauges: what there is now; and `longest_turn` is one.
    ///
    /// ```
    /// use shardgram_core::Snapshot;
    /// let snapshot = Snapshot { received: 2, refused: vec![("no cookie", 2)], ..Snapshot::default() };
    /// let text = snapshot.prometheus();
    /// assert!(text.contains("# TYPE shardgram_received counter\nshardgram_received 2\n"));
    /// assert!(text.contains("\nshardgram_refused{reason=\"no cookie\"} 2\n"));
    /// assert!(text.contains("# TYPE shardgram_peers gauge\n"));
    /// ```
    pub fn prometheus(&self) -> String {
        let counted = Self { refused: Vec::new(), ..self.clone() }.named();
        let now = [("peers", self.peers()), ("connected", self.connected())];
        let counted = counted.iter().map(|(name, value)| {
            let kind = if GAUGES.contains(&name.as_str()) { "gauge" } else { "counter" };
            (kind, name.as_str(), *value)
        });
        let all = counted.chain(now.map(|(name, value)| ("gauge", name, value)));
        let mut text: String = all
            .map(|(kind, name, value)| format!("# TYPE shardgram_{name} {kind}\nshardgram_{name} {value}\n"))
            .collect();
        if !self.refused.is_empty() {
            text.push_str("# TYPE shardgram_refused counter\n");
        }
        text.extend(
            self.refused.iter().map(|(reason, count)| {
                format!("shardgram_refused{{reason=\"{}\"}} {count}\n", escaped(reason))
            }),
        );
        text
    }
}

/// As the value of a label has to be: "Backslash (\), double-quote (\"), and line feed (\n) characters" are escaped.
fn escaped(reason: &str) -> String {
    reason.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The name and the labels of a sample, and its value; as the format has them.
    fn sample(line: &str) -> (&str, &str, u64) {
        let (metric, value) = line.rsplit_once(' ').expect("a value");
        let name = metric.find('{').map_or(metric, |at| &metric[..at]);
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(is_name && !name.is_empty(), "{line}");
        (name, &metric[name.len()..], value.parse().expect("a number"))
    }

    #[test]
    fn every_line_is_a_type_or_a_sample_of_the_type_before() {
        let snapshot = Snapshot { refused: vec![("a b", 1), ("say \"x\"\n\\", 2)], ..Snapshot::default() };
        let (text, mut typed, mut labels) = (snapshot.prometheus(), BTreeSet::new(), Vec::new());
        let mut of = "";
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a kind");
                assert!(["counter", "gauge"].contains(&kind) && typed.insert(name), "{line}");
                of = name;
                continue;
            }
            let (name, label, _) = sample(line);
            assert_eq!(name, of, "{line}");
            labels.extend((!label.is_empty()).then_some(label));
        }
        assert_eq!(labels, ["{reason=\"a b\"}", "{reason=\"say \\\"x\\\"\\n\\\\\"}"]);
        // The refusals, as one, and two that are made of others.
        assert_eq!(typed.len(), Snapshot::default().named().len() + 3);
        for gauge in GAUGES {
            assert!(text.contains(&format!("# TYPE shardgram_{gauge} gauge\n")), "{gauge}");
        }
    }
}
