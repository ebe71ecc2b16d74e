//! The setters: what each setting means, with its default, unit, range and cost.

mod groups;
mod peers;
mod queues;
mod server;
mod sockets;
mod turn;

#[cfg(test)]
mod tests {
    use crate::config::settings::{ROWS, Row};

    const SETTERS: &[&str] = &[
        include_str!("groups.rs"),
        include_str!("peers.rs"),
        include_str!("queues.rs"),
        include_str!("server.rs"),
        include_str!("sockets.rs"),
        include_str!("turn.rs"),
    ];

    /// The documentation of a setter as one line.
    fn documentation(name: &str) -> String {
        let function = format!("    pub fn {name}(");
        let source = SETTERS.iter().find(|source| source.contains(&function));
        let source = source.unwrap_or_else(|| panic!("{name} has no setter"));
        let above = &source[..source.find(&function).unwrap_or(0)];
        let lines: Vec<_> = above.lines().rev().take_while(|line| line.starts_with("    ")).collect();
        let words =
            lines.iter().rev().flat_map(|line| line.trim_start_matches([' ', '/']).split_whitespace());
        words.collect::<Vec<_>>().join(" ")
    }

    /// How a number may be written: with commas, and in the largest unit of bytes.
    fn spellings(number: u64) -> [String; 2] {
        let digits = number.to_string();
        let mut grouped = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter();
        let unit = unit.map(|(bits, unit)| (1 << bits, unit)).find(|(one, _)| number.is_multiple_of(*one));
        let in_unit =
            unit.map_or(grouped.clone(), |(one, unit): (u64, _)| format!("{} {unit}", number / one));
        [grouped, in_unit]
    }

    fn says(text: &str, before: &str, number: u64) -> bool {
        spellings(number).iter().any(|spelling| text.contains(&format!("{before} {spelling}")))
    }

    #[test]
    fn setters_state_what_the_table_says() {
        for Row { name, default, range, .. } in ROWS {
            let text = documentation(if *name == "memberships" { "join" } else { name });
            match default.replace('_', "").parse() {
                Ok(number) => assert!(says(&text, "Default", number), "{name}: the default is {default}"),
                Err(_) => assert!(text.contains("Default"), "{name}: the default is {default}"),
            }
            let Some((_, high)) = range else { continue };
            assert!(says(&text, "to", *high), "{name}: the most is {high}");
        }
    }
}
