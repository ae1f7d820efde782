//! Events as JSON objects, distinguished by the field `event`.

use ivon_lora::watch::Event;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::names;

/// An event: `note`, `warning`, `step`, `evaluation`, `saved` or `progress`.
pub fn event(event: &Event<'_>) -> Value {
    match event {
        Event::Note(text) => tagged("note", &json!({ "text": text })),
        Event::Warning(text) => tagged("warning", &json!({ "text": names::written(text) })),
        Event::Step(record, of) => {
            let mut value = tagged("step", record);
            if let Value::Object(map) = &mut value {
                map.insert("of".into(), json!(of));
            }
            value
        }
        // These arrive as progress and as a note.
        Event::Received { .. } | Event::Member(..) => Value::Null,
        Event::Evaluation(record) => tagged("evaluation", record),
        Event::Saved(path) => tagged("saved", &json!({ "path": path.display().to_string() })),
        Event::Progress { what, done, total } => tagged(
            "progress",
            &json!({ "what": what.words(), "done": done, "total": total }),
        ),
    }
}

/// A value with the field `event` in front of its own fields; a value that is not an object goes
/// under `value`.
pub fn tagged(event: &str, value: &impl Serialize) -> Value {
    let mut map = Map::from_iter([("event".to_string(), json!(event))]);
    match serde_json::to_value(value).unwrap_or_default() {
        Value::Object(fields) => map.extend(fields),
        other => {
            map.insert("value".into(), other);
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests {
    use ivon_lora::watch::{Stage, StepRecord};

    use super::*;

    #[test]
    fn an_event_is_an_object_that_begins_with_its_name() {
        let of = |value: &Event<'_>| event(value).to_string();
        assert_eq!(
            of(&Event::Note("a".into())),
            r#"{"event":"note","text":"a"}"#
        );
        assert_eq!(
            of(&Event::Progress {
                what: Stage::Predicting,
                done: 1,
                total: 2
            }),
            r#"{"event":"progress","what":"predicting","done":1,"total":2}"#
        );
        let step = of(&Event::Step(
            &StepRecord {
                step: 3,
                loss: 0.5,
                ..StepRecord::default()
            },
            7,
        ));
        assert!(
            step.starts_with(r#"{"event":"step","step":3,"loss":0.5,"#)
                && step.ends_with(r#""of":7}"#),
            "{step}"
        );
    }
}
