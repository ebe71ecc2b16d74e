//! Figures, and what they have to be.

/// A figure that is judged.
#[derive(Clone, Debug)]
struct Row {
    scenario: String,
    what: String,
    figure: String,
    bar: String,
    met: bool,
}

/// The figures of a run.
#[derive(Clone, Debug, Default)]
pub struct Bars {
    rows: Vec<Row>,
    scenario: String,
}

impl Bars {
    /// What follows is of that scenario.
    pub fn of(&mut self, scenario: impl Into<String>) {
        self.scenario = scenario.into();
    }

    /// Says a figure that nothing is asked of.
    pub fn note(&self, what: &str, figure: impl std::fmt::Display) {
        println!("{}: {what}: {figure}", self.scenario);
    }

    fn judge(&mut self, what: &str, figure: String, bar: String, met: bool) {
        let (scenario, what) = (self.scenario.clone(), what.to_owned());
        println!("{scenario}: {what}: {figure}, {bar}: {}", verdict(met));
        self.rows.push(Row { scenario, what, figure, bar, met });
    }

    /// One that may be no more than that.
    pub fn at_most(&mut self, what: &str, figure: f64, bar: f64, unit: &str) {
        let met = figure <= bar;
        self.judge(what, number(figure, unit), format!("at most {}", number(bar, unit)), met);
    }

    /// One that may be no less than that.
    pub fn at_least(&mut self, what: &str, figure: f64, bar: f64, unit: &str) {
        let met = figure >= bar;
        self.judge(what, number(figure, unit), format!("at least {}", number(bar, unit)), met);
    }

    /// Whether all are met.
    #[must_use]
    pub fn met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }

    /// All that are judged, as a table.
    ///
    /// ```
    /// let mut bars = shardgram_benches::floods::bars::Bars::default();
    /// bars.of("rain");
    /// bars.at_most("drops", 3.0, 2.0, "");
    /// assert!(!bars.met());
    /// assert!(bars.markdown().contains("| rain | drops | 3 | at most 2 | MISSED |"));
    /// ```
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text =
            "| scenario | figure | value | bar | verdict |\n| --- | --- | --- | --- | --- |\n".to_owned();
        for Row { scenario, what, figure, bar, met } in &self.rows {
            let verdict = verdict(*met);
            text.push_str(&format!("| {scenario} | {what} | {figure} | {bar} | {verdict} |\n"));
        }
        text
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value.fract() == 0.0 || value.abs() >= 1_000.0 { 0 } else { 3 };
    format!("{value:.digits$}{}{unit}", if unit.is_empty() { "" } else { " " })
}
