//! A firewall that would swallow what devices send: read from nftables, which iptables fills too today.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::app::check::finding::Finding;
use crate::config::Config;

const SUBJECT: &str = "firewall";
const PATIENCE: Duration = Duration::from_secs(5);
/// Chains that jump into each other deeper than this are not followed.
const DEEPEST: usize = 8;

/// What a device sends.
#[derive(Clone, Copy)]
struct Packet<'a> {
    interface: &'a str,
    protocol: &'static str,
    port: u16,
}

pub async fn look(config: &Config) -> Vec<Finding> {
    let asked = Command::new("nft").args(["-j", "list", "ruleset"]).kill_on_drop(true).output();
    let output = match timeout(PATIENCE, asked).await {
        Ok(Ok(output)) if output.status.success() => output.stdout,
        Ok(Ok(_)) => return vec![Finding::note(SUBJECT, "nft may not be asked by this user", "run this as root")],
        // No nft: a firewall of other make is rare, and is not looked for.
        Ok(Err(_)) => return vec![Finding::ok(SUBJECT, "nftables is not installed")],
        Err(_) => return vec![Finding::note(SUBJECT, "nft did not answer within 5 s", "look at the firewall by hand")],
    };
    match serde_json::from_slice(&output) {
        Ok(ruleset) => judge(config, &Ruleset::read(&ruleset)),
        Err(error) => vec![Finding::note(SUBJECT, format!("cannot read what nft says: {error}"), "look at it by hand")],
    }
}

fn judge(config: &Config, rules: &Ruleset<'_>) -> Vec<Finding> {
    let mut wanted = vec![("udp", config.tftp.listen.port(), "TFTP"), ("tcp", config.http.devices.port(), "HTTP")];
    wanted.extend(config.dhcp.iter().map(|dhcp| ("udp", dhcp.port, "DHCP")));
    let mut findings: Vec<Finding> = wanted
        .into_iter()
        .filter_map(|(protocol, port, what)| {
            let packet = Packet { interface: &config.interface, protocol, port };
            let chain = rules.swallows(packet)?;
            Some(Finding::fault(
                SUBJECT,
                format!(
                    "{what} of devices ({protocol} {port} on {}) is dropped by the chain {chain}",
                    config.interface
                ),
                format!("let it in: nft insert rule {chain} iifname \"{}\" accept", config.interface),
            ))
        })
        .collect();
    if findings.is_empty() {
        findings.push(Finding::ok(SUBJECT, "lets DHCP, TFTP and HTTP of devices in"));
    }
    findings
}

/// Chains and rules as `nft -j list ruleset` lists them.
struct Ruleset<'a> {
    chains: Vec<&'a Value>,
    rules: Vec<&'a Value>,
}

/// What a chain does with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
    /// Its end was reached, or what it does depends on what is not known here.
    On,
}

impl<'a> Ruleset<'a> {
    fn read(ruleset: &'a Value) -> Self {
        let all = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        Self {
            chains: all.iter().filter_map(|one| one.get("chain")).collect(),
            rules: all.iter().filter_map(|one| one.get("rule")).collect(),
        }
    }

    /// The input chain that drops the packet, as nft names it. Every input chain must let a packet pass.
    fn swallows(&self, packet: Packet<'_>) -> Option<String> {
        let families = BTreeSet::from(["ip", "inet"]);
        let inputs = self.chains.iter().filter(|chain| {
            chain["hook"] == "input" && chain["family"].as_str().is_some_and(|family| families.contains(family))
        });
        inputs.into_iter().find_map(|chain| {
            let verdict = match self.walk(chain, packet, 0) {
                Verdict::On if chain["policy"] == "drop" => Verdict::Drop,
                verdict => verdict,
            };
            let name = |key: &str| chain[key].as_str().unwrap_or("?").to_owned();
            (verdict == Verdict::Drop).then(|| format!("{} {} {}", name("family"), name("table"), name("name")))
        })
    }

    fn walk(&self, chain: &Value, packet: Packet<'_>, depth: usize) -> Verdict {
        let same = |rule: &Value, key: &str| rule[key] == chain[key];
        let rules = self
            .rules
            .iter()
            .filter(|rule| same(rule, "family") && same(rule, "table") && rule["chain"] == chain["name"]);
        for rule in rules {
            let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
            if parts.iter().filter_map(|part| part.get("match")).any(|wanted| !meets(wanted, packet)) {
                continue;
            }
            // A match of iptables' own make is not known here: the rule is taken not to apply.
            if parts.iter().any(|part| part.get("xt").is_some()) {
                continue;
            }
            for part in parts {
                let target = ["jump", "goto"].iter().find_map(|kind| part.get(kind)?.get("target")?.as_str());
                let verdict = match target {
                    Some(name) if depth < DEEPEST => self
                        .chains
                        .iter()
                        .find(|other| same(other, "family") && same(other, "table") && other["name"] == name)
                        .map_or(Verdict::On, |other| self.walk(other, packet, depth + 1)),
                    _ if part.get("accept").is_some() => Verdict::Accept,
                    _ if part.get("drop").is_some() || part.get("reject").is_some() => Verdict::Drop,
                    _ if part.get("return").is_some() => return Verdict::On,
                    _ => Verdict::On,
                };
                if verdict != Verdict::On {
                    return verdict;
                }
            }
        }
        Verdict::On
    }
}

/// Whether the first packet of a device meets a condition; one that is not known counts as not met.
fn meets(wanted: &Value, packet: Packet<'_>) -> bool {
    let (left, right) = (&wanted["left"], &wanted["right"]);
    let equal =
        match (left["meta"]["key"].as_str(), left["payload"]["field"].as_str(), left["payload"]["protocol"].as_str()) {
            (Some("iifname" | "iif"), ..) => holds(right, &|value| {
                value.as_str().is_some_and(|name| {
                    name.strip_suffix('*').map_or(name == packet.interface, |stem| packet.interface.starts_with(stem))
                })
            }),
            (Some("l4proto"), ..) | (_, Some("protocol"), _) => holds(right, &|value| value == packet.protocol),
            (_, Some("dport"), Some(protocol)) => {
                (protocol == packet.protocol || protocol == "th") && holds(right, &|value| value == packet.port)
            }
            _ => return false,
        };
    equal != (wanted["op"] == "!=")
}

/// A value, any of a set, or one in a range.
fn holds(right: &Value, is: &dyn Fn(&Value) -> bool) -> bool {
    if let Some(set) = right["set"].as_array() {
        return set.iter().any(|one| holds(one, is));
    }
    if let Some([first, last]) = right["range"].as_array().map(Vec::as_slice) {
        let bounds = first.as_u64().zip(last.as_u64());
        return bounds.is_some_and(|(first, last)| (first..=last).any(|value| is(&Value::from(value))));
    }
    is(right)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn swallowed(entries: &[Value], port: u16) -> Option<String> {
        let ruleset = json!({"nftables": entries});
        Ruleset::read(&ruleset).swallows(Packet { interface: "eth1", protocol: "udp", port })
    }

    fn chain(policy: &str) -> Value {
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": policy}})
    }

    fn rule(chain: &str, expr: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": expr}})
    }

    fn dport(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}})
    }

    #[test]
    fn a_policy_of_drop_swallows_what_no_rule_accepts() {
        assert_eq!(swallowed(&[chain("accept")], 67), None);
        assert_eq!(swallowed(&[chain("drop")], 67).as_deref(), Some("inet filter input"));
        let open = rule("input", json!([dport(json!({"set": [67, {"range": [69, 70]}]})), {"accept": null}]));
        assert_eq!(swallowed(&[chain("drop"), open.clone()], 67), None);
        assert_eq!(swallowed(&[chain("drop"), open.clone()], 69), None);
        assert!(swallowed(&[chain("drop"), open], 80).is_some());
    }

    #[test]
    fn what_depends_on_the_connection_lets_no_first_packet_in() {
        let established = json!([{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established"]}}, {"accept": null}]);
        assert!(swallowed(&[chain("drop"), rule("input", established)], 67).is_some());
    }

    #[test]
    fn jumps_are_followed_and_order_counts() {
        let other = json!({"chain": {"family": "inet", "table": "filter", "name": "line"}});
        let mine = json!({"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth1"}});
        let jump = rule("input", json!([mine, {"jump": {"target": "line"}}]));
        let accept = rule("line", json!([{"accept": null}]));
        assert_eq!(swallowed(&[chain("drop"), other.clone(), jump.clone(), accept.clone()], 67), None);
        let dropped = rule("line", json!([dport(json!(67)), {"drop": null}]));
        assert!(swallowed(&[chain("accept"), other, jump, dropped, accept], 67).is_some());
    }
}
