//! Prints settings, formats and routes as JSON: the source of what `cargo xtask generate` writes into the
//! manifest, the chart and the documentation.

use serde_json::{Value, json};

use hand_gesture_api::{api, settings};
use telemetry::setting::{Relation, Setting};
use vision::decode::Format;

fn main() {
    let all = settings::TABLE.iter().chain(&telemetry::settings::TABLE);
    let description = json!({
        "settings": all.map(setting).collect::<Vec<_>>(),
        "formats": Format::ALL.map(format),
        "routes": api::ROUTES.map(route),
    });
    println!("{description:#}");
}

fn setting(setting: &Setting) -> Value {
    let (overrides, replaced_by) = match setting.relation {
        Relation::None => (None, None),
        Relation::Overrides(name) => (Some(name), None),
        Relation::ReplacedBy(name) => (None, Some(name)),
    };
    json!({
        "name": setting.name,
        "environment": setting.environment_name(),
        "group": setting.group,
        "help": setting.help,
        "kind": setting.kind.name(),
        // As it would be written; null if only leaving it out means the same.
        "default": setting.kind.default(),
        // In words, for a setting without such a default.
        "unset": setting.kind.unset(),
        // The value in the manifest.
        "declared": setting.declared,
        "unit": setting.kind.unit(),
        "range": setting.kind.range().map(|range| [*range.start(), *range.end()]),
        "choices": setting.kind.choices(),
        "secret": setting.secret,
        "overrides": overrides,
        "replaced_by": replaced_by,
    })
}

fn format(format: Format) -> Value {
    json!({
        "name": format.name(),
        "media_type": format.media_type(),
        "media_types": format.media_types(),
    })
}

fn route(entry: api::Entry) -> Value {
    json!({
        "method": entry.verb.name(),
        "path": entry.path,
        "allow": entry.verb.allow(),
        "description": entry.description,
    })
}
