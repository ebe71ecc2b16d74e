//! What a result was measured on, as far as the system tells.

use std::fs::read_to_string;

/// Names and values, without what is unknown.
pub(crate) fn fingerprint() -> Vec<(&'static str, String)> {
    let facts = [
        ("system", Some(format!("{} ({})", std::env::consts::OS, std::env::consts::ARCH))),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("CPU", cpu()),
        ("cores", std::thread::available_parallelism().ok().map(|cores| cores.to_string())),
        ("governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("memory", memory()),
        ("mitigations of spectre_v2", first_line("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
        ("net.core.rmem_max", first_line("/proc/sys/net/core/rmem_max")),
        ("net.core.wmem_max", first_line("/proc/sys/net/core/wmem_max")),
        ("shardgram", Some(env!("CARGO_PKG_VERSION").to_owned())),
        ("build", Some(if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn first_line(path: &str) -> Option<String> {
    let text = read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// proc(5): `/proc/cpuinfo`. Virtual machines have the flag "hypervisor".
fn cpu() -> Option<String> {
    let text = read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = text.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let model = field("model name").or_else(|| field("CPU part"))?;
    let guest = field("flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    Some(if guest { format!("{model}, in a virtual machine") } else { model.to_owned() })
}

/// proc(5): `/proc/meminfo`.
fn memory() -> Option<String> {
    let text = read_to_string("/proc/meminfo").ok()?;
    let kib: f64 = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    Some(format!("{:.1} GiB", kib / 1_048_576.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_told_without_holes() {
        let facts = fingerprint();
        assert!(facts.iter().any(|(name, _)| *name == "system"));
        assert!(facts.iter().all(|(_, value)| !value.is_empty()), "{facts:?}");
        assert_eq!(facts.iter().any(|(name, _)| *name == "kernel"), cfg!(target_os = "linux"));
    }
}
