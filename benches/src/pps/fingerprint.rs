//! On what it was measured.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::contender::ALL;
use super::system;

/// Packages whose versions matter.
const PACKAGES: [&str; 10] = [
    "shardgram",
    "io-uring",
    "quinn-udp",
    "tokio",
    "mio",
    "monoio",
    "glommio",
    "compio",
    "compio-driver",
    "libc",
];

/// Kernel, processor, limits, versions.
#[derive(Clone, Debug, Serialize)]
pub struct Fingerprint {
    /// What it is, and what it says.
    pub facts: BTreeMap<&'static str, String>,
    /// Versions that `Cargo.lock` names.
    pub versions: BTreeMap<String, String>,
    /// Contenders that are not in this program, and why.
    pub missing: BTreeMap<&'static str, &'static str>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "not readable".to_owned(), |text| text.trim().to_owned())
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.to_owned())
}

fn bounds(resource: libc::__rlimit_resource_t) -> String {
    let (soft, hard) = system::limit(resource);
    let text = |value| if value == libc::RLIM_INFINITY { "unlimited".to_owned() } else { format!("{value}") };
    format!("{} (hard {})", text(soft), text(hard))
}

/// Versions as the lock file of this build names them; several of one name are all listed.
fn versions() -> BTreeMap<String, String> {
    let lock: Lock = match toml::from_str(include_str!("../../../Cargo.lock")) {
        Ok(lock) => lock,
        Err(_) => return BTreeMap::new(),
    };
    let mut versions = BTreeMap::<String, String>::new();
    for Package { name, version } in lock.package {
        if PACKAGES.contains(&name.as_str()) {
            let all = versions.entry(name).or_default();
            *all = if all.is_empty() { version } else { format!("{all}, {version}") };
        }
    }
    versions
}

impl Fingerprint {
    /// Of this machine and program.
    #[must_use]
    pub fn take(server_core: usize, client_core: usize) -> Self {
        let governor = format!("/sys/devices/system/cpu/cpu{server_core}/cpufreq/scaling_governor");
        let facts = [
            ("kernel", read("/proc/sys/kernel/osrelease")),
            ("processor", processor()),
            ("cores", read("/sys/devices/system/cpu/online")),
            ("server core", server_core.to_string()),
            ("client core", client_core.to_string()),
            ("governor", read(&governor)),
            ("load average at the start", read("/proc/loadavg")),
            ("RLIMIT_NOFILE", bounds(libc::RLIMIT_NOFILE)),
            ("RLIMIT_MEMLOCK", bounds(libc::RLIMIT_MEMLOCK)),
            ("net.core.rmem_max", read("/proc/sys/net/core/rmem_max")),
            ("net.core.wmem_max", read("/proc/sys/net/core/wmem_max")),
            ("kernel.io_uring_disabled", read("/proc/sys/kernel/io_uring_disabled")),
            ("mitigations", read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
            ("compiler", env!("PPS_RUSTC").to_owned()),
            ("profile", env!("PPS_PROFILE").to_owned()),
        ];
        let missing = ALL.iter().filter(|contender| !contender.is_built());
        Self {
            facts: facts.into(),
            versions: versions(),
            missing: missing.map(|contender| (contender.name, "built without the feature rivals")).collect(),
        }
    }

    /// As a table.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = "| what | value |\n| --- | --- |\n".to_owned();
        let row = |(name, value): (&str, &str)| format!("| {name} | {} |\n", value.replace('|', "\\|"));
        text.extend(self.facts.iter().map(|(name, value)| row((name, value))));
        let versions: Vec<_> =
            self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        text.push_str(&row(("versions", &versions.join("; "))));
        text.extend(self.missing.iter().map(|(name, why)| row((&format!("no {name}"), why))));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn it_says_what_matters() {
        let fingerprint = Fingerprint::take(1, 0);
        let text = fingerprint.markdown();
        for what in
            ["kernel", "processor", "RLIMIT_NOFILE", "rustc ", "shardgram 0.", "tokio 1.", "compio 0."]
        {
            assert!(text.contains(what), "{what} is missing:\n{text}");
        }
    }
}
