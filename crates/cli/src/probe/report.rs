//! What a probe found, as JSON and as text.

use crate::term::{Paint, Style};
use crate::units;
use outlast_msgr2::wire::{FEATURE_COMPRESSION, FEATURE_REVISION_1};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// How wide a value may be beside its label, in characters: 80 columns in all.
const VALUE_COLUMNS: usize = 64;

/// What was learnt. What stayed unknown is left out of the JSON.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    /// What was dialled, and the address that answered.
    pub(super) address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answered: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) banner: Option<BannerReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entity: Option<EntityReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) our_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allowed: Option<AllowedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<LoginReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compression: Option<CompressionReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<SessionReport>,
    pub(super) steps: Vec<StepReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stopped: Option<StoppedReport>,
}

/// The peer's banner, and which revision two ends speak that both offer the second.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BannerReport {
    pub(super) protocol: String,
    /// Bits in hexadecimal: more of them than a number in JSON can be trusted with.
    pub(super) supported: String,
    pub(super) required: String,
    pub(super) features: Vec<String>,
    #[serde(skip)]
    pub(super) requires: Vec<String>,
}

/// Who the peer is: its type from HELLO, the rest from its ident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct EntityReport {
    #[serde(rename = "type")]
    pub(super) entity_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) number: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) addresses: Vec<String>,
}

/// What the peer answers to an offer that nobody can take.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct AllowedReport {
    pub(super) methods: Vec<String>,
    pub(super) modes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct LoginReport {
    pub(super) name: String,
    pub(super) method: String,
    pub(super) mode: String,
    pub(super) global_id: u64,
    /// The type of the key that we hold, and of the one for this session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_key_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) tickets: Vec<TicketReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TicketReport {
    pub(super) service: String,
    pub(super) key_type: String,
    pub(super) valid_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct CompressionReport {
    pub(super) granted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct SessionReport {
    /// Whether the peer keeps nothing when this connection is lost.
    pub(super) lossy: bool,
    /// Ceph's feature bits, in hexadecimal.
    pub(super) features_supported: String,
    pub(super) features_required: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StepReport {
    pub(super) step: String,
    pub(super) microseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StoppedReport {
    pub(super) step: String,
    pub(super) reason: String,
}

/// The names of the msgr2 features that are known.
pub(super) fn feature_names(bits: u64) -> Vec<String> {
    let known = [
        (FEATURE_REVISION_1, "revision-1"),
        (FEATURE_COMPRESSION, "compression"),
        (outlast_msgr2::connection::FEATURE_OUTLAST_CLOSE, "outlast-close"),
    ];
    let mut names: Vec<_> =
        known.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).into()).collect();
    let rest = known.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

/// Breaks a list at its commas and spaces where it would leave the screen.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + word.trim_end().chars().count() > VALUE_COLUMNS {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

impl Report {
    /// The report as people read it.
    pub(super) fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        let mut line = |label: &str, value: String| {
            let mut label = label;
            for part in wrap(&value) {
                let _ = writeln!(text, "  {} {part}", paint.with(Style::Dim, format!("{label:<13}")));
                label = "";
            }
        };
        if let Some(banner) = &self.banner {
            let required =
                if banner.requires.is_empty() { "nothing".to_owned() } else { banner.requires.join(", ") };
            let features =
                if banner.features.is_empty() { "none".to_owned() } else { banner.features.join(", ") };
            line("speaks", format!("{}; features: {features}; requires {required}", banner.protocol));
        }
        if let Some(entity) = &self.entity {
            let number = entity
                .number
                .map_or_else(|| ", number not told before login".to_owned(), |n| format!(".{n}"));
            line("is", format!("{}{number}", entity.entity_type));
            if !entity.addresses.is_empty() {
                line("known as", entity.addresses.join(" "));
            }
        }
        if let Some(address) = &self.our_address {
            line("sees us as", address.clone());
        }
        if let Some(allowed) = &self.allowed {
            line(
                "lets in by",
                format!("{}; modes: {}", allowed.methods.join(", "), allowed.modes.join(", ")),
            );
        }
        if let Some(login) = &self.login {
            line(
                "login",
                format!(
                    "as {} by {}, {} mode, global id {}",
                    login.name, login.method, login.mode, login.global_id
                ),
            );
            match (&login.key_type, &login.session_key_type) {
                (Some(own), Some(session)) => line("keys", format!("ours {own}, this session's {session}")),
                (None, Some(session)) => line("keys", format!("the ticket's {session}")),
                (Some(_) | None, None) => {}
            }
            if !login.tickets.is_empty() {
                let tickets = login.tickets.iter().map(|ticket| {
                    let valid = units::duration(Duration::from_secs(ticket.valid_seconds));
                    format!("{} ({}, {valid})", ticket.service, ticket.key_type)
                });
                line("tickets", tickets.collect::<Vec<_>>().join(", "));
            }
        }
        if let Some(compression) = &self.compression {
            line(
                "compression",
                match &compression.method {
                    Some(method) if compression.granted => format!("granted, {method}"),
                    Some(_) | None => "understood, not granted to us".to_owned(),
                },
            );
        }
        if let Some(session) = &self.session {
            let kind = if session.lossy {
                "lossy (ends with its connection)"
            } else {
                "lossless (outlasts its connection)"
            };
            line("session", kind.to_owned());
            let (has, wants) = (&session.features_supported, &session.features_required);
            line("features", format!("{has}, requires {wants}"));
        }
        if !self.steps.is_empty() {
            let steps = self.steps.iter().map(|step| {
                format!("{} {}", step.step, units::duration(Duration::from_micros(step.microseconds)))
            });
            line("took", steps.collect::<Vec<_>>().join(", "));
        }
        if let Some(stopped) = &self.stopped {
            line("ended", paint.with(Style::Bold, format!("in step {}: {}", stopped.step, stopped.reason)));
        }
        let answered = match &self.answered {
            Some(answered) if *answered != self.address => format!(" ({answered})"),
            Some(_) | None => String::new(),
        };
        format!("{}{answered}\n{text}", paint.with(Style::Bold, &self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_without_a_name_are_shown_as_bits() {
        assert_eq!(feature_names(3), ["revision-1", "compression"]);
        assert_eq!(feature_names(1 | 1 << 20), ["revision-1", "0x100000"]);
        assert!(feature_names(0).is_empty());
    }

    #[test]
    fn a_report_fits_the_screen() {
        let steps = ["connect", "banner", "hello", "methods", "login", "signature", "ident", "keepalive"];
        let steps = steps.map(|step| StepReport { step: step.to_owned(), microseconds: 59_999_000 });
        let report = Report { address: "host:1".to_owned(), steps: steps.into(), ..Report::default() };
        let text = report.text(Paint::new(false));
        assert!(text.lines().count() > 2);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
