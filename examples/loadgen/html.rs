//! One file with everything that was measured, for browsers, without scripts and without a network.

use std::fmt::Write;

use super::machine;
use super::plots::{MOST_SERIES, Plot};

const STYLE: &str = include_str!("report.css");

/// What a page shows, from top to bottom.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) title: String,
    /// Who loaded whom, with what.
    pub(crate) lead: Vec<String>,
    /// The numbers that matter most.
    pub(crate) figures: Vec<(String, String)>,
    /// What is to be known before the numbers are believed.
    pub(crate) warnings: Vec<String>,
    pub(crate) plots: Vec<Plot>,
    /// The same as text, as it was printed.
    pub(crate) text: String,
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Everything as JSON.
    pub(crate) json: String,
}

impl Page {
    pub(crate) fn html(&self) -> String {
        let mut page = String::new();
        let title = escaped(&self.title);
        let _ = write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        for line in &self.lead {
            let _ = writeln!(page, "<p class=\"lead\">{}</p>", escaped(line));
        }
        for warning in &self.warnings {
            let _ = writeln!(page, "<p class=\"warning\">{}</p>", escaped(warning));
        }
        let _ = writeln!(page, "<dl class=\"figures\">");
        for (name, value) in &self.figures {
            let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escaped(name), escaped(value));
        }
        let _ = writeln!(page, "</dl>");
        self.plots.iter().for_each(|plot| figure(&mut page, plot));
        let _ = writeln!(page, "<h2>As text</h2>\n<pre>{}</pre>", escaped(&self.text));
        table(&mut page, "Settings", &self.settings);
        table(&mut page, "Machine", &machine::fingerprint());
        let json = escaped(&self.json);
        let _ = writeln!(page, "<details><summary>Everything as JSON</summary><pre>{json}</pre></details>");
        page + "</body>\n</html>\n"
    }
}

/// A plot with its title and the names of its lines; nothing if there is nothing to see in it.
fn figure(page: &mut String, plot: &Plot) {
    let Some(svg) = plot.svg() else { return };
    let _ = writeln!(page, "<figure>\n<figcaption><h2>{}</h2>", escaped(plot.title));
    for (index, series) in plot.series.iter().take(MOST_SERIES).enumerate() {
        let name = escaped(&series.name);
        let _ = write!(page, "<span class=\"key\" style=\"--key:var(--s{index})\">{name}</span> ");
    }
    let _ = writeln!(page, "</figcaption>\n{svg}\n</figure>");
}

fn table(page: &mut String, title: &str, rows: &[(&'static str, String)]) {
    let _ = writeln!(page, "<h2>{title}</h2>\n<table>");
    for (name, value) in rows {
        let _ =
            writeln!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(value));
    }
    let _ = writeln!(page, "</table>");
}

/// Text that means nothing to a browser.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_whole_and_nothing_in_it_is_taken_for_markup() {
        let evil = "</pre><script>alert(1)</script>".to_owned();
        let page = Page {
            title: evil.clone(),
            lead: vec![evil.clone()],
            figures: vec![(evil.clone(), evil.clone())],
            warnings: vec![evil.clone()],
            text: evil.clone(),
            settings: vec![("target", evil.clone())],
            json: evil,
            ..Page::default()
        };
        let html = page.html();
        assert!(!html.contains("<script") && html.contains("&lt;script&gt;"), "{html}");
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"), "{html}");
        assert!(!html.contains("http://") && !html.contains("https://"), "nothing from elsewhere");
        for index in 0..MOST_SERIES {
            assert_eq!(STYLE.matches(&format!("--s{index}: #")).count(), 2, "light and dark");
        }
        for tag in ["html", "body", "dl", "table", "details", "style"] {
            let [opened, closed] =
                [format!("<{tag}"), format!("</{tag}>")].map(|tag| html.matches(&tag).count());
            assert_eq!(opened, closed, "{tag} in {html}");
        }
    }
}
