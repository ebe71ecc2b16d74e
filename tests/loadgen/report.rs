//! The report for browsers.

use super::*;

/// The page, after a look that it is whole and asks nothing of anybody.
fn page(arguments: &str) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.html");
    let output = run(&format!("{arguments} --report {}", file.display()));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let html = std::fs::read_to_string(&file).expect("the report");
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"), "{html}");
    for outside in ["http://", "https://", "<script", "<link", "<img", "@import", "src="] {
        let asked = html.replace("http://www.w3.org/2000/svg", ""); // the name of a language, not an address
        assert!(!asked.contains(outside), "{outside} in {html}");
    }
    html
}

fn assert_plots(html: &str, titles: &[&str]) {
    assert_eq!(html.matches("<svg").count(), titles.len(), "{html}");
    for title in titles {
        assert!(html.contains(&format!("aria-label=\"{title}\"")), "{title} in {html}");
    }
    let lines = html.matches("<polyline fill=\"none\" opacity=\"1\" stroke=\"var(--s").count();
    assert_eq!(lines, html.matches("class=\"key\"").count(), "each line has a name");
}

#[test]
fn a_report_of_a_run_shows_it_over_time() {
    let html = page("--rate 1000 --flows 4 --duration 500ms --warmup 50ms --size 64-128 --seed 5");
    let titles = ["Rates over time", "Loss over time", "Latency over time", "Latency distribution"];
    assert_plots(&html, &titles);
    for part in
        ["prefers-color-scheme: dark", "--seed 5", "<th scope=\"row\">system</th>", "&quot;latency_ns&quot;"]
    {
        assert!(html.contains(part), "{part} in {html}");
    }
}

#[test]
fn a_report_of_a_search_shows_its_trials() {
    let html = page("--search 0 --rate 100 --trial 100ms --warmup 0s --flows 2 --max-trials 3");
    let latency = "Latency distribution at parts of the rates found";
    assert_plots(&html, &["Loss of the trials", "Latency of the trials", latency]);
    assert!(html.contains("highest rate, no loss"), "{html}");
}

#[test]
fn a_report_of_what_is_unknown_leaves_it_out() {
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = sink.local_addr().expect("its address");
    let html = page(&format!(
        "{target} --mode sink --rate 500 --flows 2 --duration 200ms --warmup 0s --timeout 100ms"
    ));
    assert_plots(&html, &["Rates over time"]);
}
