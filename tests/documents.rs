//! README, guide and the other documents: links lead somewhere, the summary of the book is whole, code is tested.
#![allow(clippy::unwrap_used, reason = "a test program")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// What fits into one sitting.
const README_LINES: usize = 220;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document, by its path from the root of the repository.
struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        Self { path, text }
    }

    /// Its lines outside code blocks.
    fn prose(&self) -> impl Iterator<Item = &str> {
        let mut in_code = false;
        self.text.lines().filter(move |line| {
            let fence = line.trim_start().starts_with("```");
            in_code ^= fence;
            !fence && !in_code
        })
    }

    /// What opens its code blocks: the word after the three backticks.
    fn code_blocks(&self) -> Vec<&str> {
        let mut fences = self.text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        let mut opening = Vec::new();
        while let Some(block) = fences.next() {
            opening.push(block);
            assert_eq!(fences.next(), Some(""), "{}: a code block is not closed", self.path.display());
        }
        opening
    }

    /// Where its links lead to, those to other hosts left out.
    fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        for line in self.prose() {
            let shown = without_code(line);
            for link in shown.split("](").skip(1) {
                let (target, _) = link.split_once(')').unwrap();
                if !target.contains("://") {
                    links.push(target.to_owned());
                }
            }
        }
        links
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    fn anchors(&self) -> BTreeSet<String> {
        let mut seen = BTreeMap::new();
        let headings = self.prose().filter(|line| line.starts_with('#'));
        headings
            .map(|heading| {
                let anchor = anchor(heading.trim_start_matches('#').trim());
                let before: &mut u32 = seen.entry(anchor.clone()).or_default();
                *before += 1;
                if *before == 1 { anchor } else { format!("{anchor}-{}", *before - 1) }
            })
            .collect()
    }
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// A line without what stands between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// `path` without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(normal.pop(), "{} leaves the repository", path.display()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Files with this ending in a folder and those below it.
fn below(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| is == ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The pages of the book, its summary left out.
fn pages() -> Vec<Document> {
    let files = below("docs", "md").into_iter().filter(|path| !path.ends_with("SUMMARY.md"));
    files.map(Document::read).collect()
}

fn summary() -> Document {
    Document::read("docs/SUMMARY.md".into())
}

fn documents() -> Vec<Document> {
    let others =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "sim/guide.md"];
    let mut documents: Vec<_> = others.iter().map(|path| Document::read(path.into())).collect();
    documents.extend(below("benches", "md").into_iter().map(Document::read));
    documents.push(summary());
    documents.extend(pages());
    documents
}

#[test]
fn links_lead_to_files_and_headings() {
    let documents = documents();
    let anchors: BTreeMap<_, _> = documents.iter().map(|d| (d.path.clone(), d.anchors())).collect();
    let mut wrong = Vec::new();
    let mut links = 0;
    for document in &documents {
        for link in document.links() {
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = match file {
                "" => document.path.clone(),
                file => normal(&document.path.parent().unwrap().join(file)),
            };
            let in_book = document.path.starts_with("docs");
            let fault = if !root().join(&target).exists() {
                "no such file"
            } else if in_book && !target.starts_with("docs") {
                "the book has no such page"
            } else if !heading.is_empty() && !anchors.get(&target).is_some_and(|of| of.contains(heading)) {
                "no such heading"
            } else {
                continue;
            };
            wrong.push(format!("{}: {link}: {fault}", document.path.display()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(links > 100, "only {links} links were found");
}

#[test]
fn the_summary_lists_every_page_once() {
    let mut listed: Vec<_> = summary().links().iter().map(|link| Path::new("docs").join(link)).collect();
    listed.sort();
    let mut there: Vec<_> = pages().into_iter().map(|page| page.path).collect();
    there.sort();
    assert_eq!(listed, there);
}

#[test]
fn what_pages_include_is_there() {
    let mut included = 0;
    for page in pages() {
        for line in page.prose() {
            let Some(include) = line.strip_prefix("{{#include ") else { continue };
            let file = include.split([':', '}']).next().unwrap();
            let file = normal(&page.path.parent().unwrap().join(file));
            assert!(root().join(&file).is_file(), "{}: {} is not there", page.path.display(), file.display());
            included += 1;
        }
    }
    assert_eq!(included, 1, "the simulator's guide is a part of the page on testing");
}

#[test]
fn every_rust_block_is_a_test() {
    let tested = fs::read_to_string(root().join("src/documents.rs")).unwrap();
    let (mut wrong, mut blocks) = (Vec::new(), 0);
    let readme = Document::read("README.md".into());
    for page in pages().into_iter().chain([readme]) {
        let path = page.path.display();
        let rust: Vec<_> = page.code_blocks().into_iter().filter(|block| block.starts_with("rust")).collect();
        blocks += rust.len();
        if !rust.is_empty() && !tested.contains(&format!("\"../{path}\"")) {
            wrong.push(format!("{path} has Rust code and is not in src/documents.rs"));
        }
        // What is not to run is compiled all the same, and what has no language is taken for Rust by rustdoc.
        let fine = |block: &&str| matches!(*block, "rust" | "rust,no_run" | "sh" | "text" | "toml");
        wrong.extend(
            page.code_blocks().iter().filter(|block| !fine(block)).map(|block| format!("{path}: {block:?}")),
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(blocks > 10, "only {blocks} blocks were found");
}

#[test]
fn every_counter_is_explained() {
    let page = Document::read("docs/guide/counters.md".into());
    let named = shardgram::Snapshot::default().named();
    let missing: Vec<_> =
        named.iter().filter(|(name, _)| !page.text.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn tests_that_stand_for_promises_are_there() {
    let text = Document::read("SECURITY.md".into()).text;
    let named: Vec<_> =
        text.split('`').skip(1).step_by(2).filter_map(|code| Some((code, code.split_once("::")?))).collect();
    let files = || ["tests", "conformance", "shard"].into_iter().flat_map(|folder| below(folder, "rs"));
    for (code, (file, test)) in &named {
        let test = test.rsplit("::").next().unwrap();
        let declared = [format!("fn {test}("), format!("fn {test}<")];
        let is_there = |path: &PathBuf| {
            let holds = |text: String| declared.iter().any(|it| text.contains(it));
            path.file_stem().is_some_and(|stem| stem == *file)
                && holds(fs::read_to_string(root().join(path)).unwrap())
        };
        assert!(files().any(|path| is_there(&path)), "there is no test {code}");
    }
    assert!(named.len() > 15, "only {} tests were found", named.len());
}

#[test]
fn the_readme_is_read_in_one_sitting() {
    let lines = Document::read("README.md".into()).text.lines().count();
    assert!(lines <= README_LINES, "{lines} lines");
}
