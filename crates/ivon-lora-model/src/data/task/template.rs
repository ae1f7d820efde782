//! A prompt template with field names in braces, as the user writes it: `Review: {text}
//! Sentiment:`.

use super::prompt::Prompt;
use crate::data::error::DataError;
use crate::data::read::Row;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(String),
}

impl Template {
    /// Parses a template. `{{` and `}}` are literal braces.
    ///
    /// # Errors
    /// If a brace is unmatched, a name is empty, or there is no field.
    pub(crate) fn parse(template: &str) -> Result<Self, DataError> {
        let malformed = |reason: &str| DataError::MalformedTemplate {
            template: template.into(),
            reason: reason.into(),
        };
        let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), template);
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                text.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err(malformed("a `}` has no `{` before it"));
            } else {
                let (name, after) = field_name(rest).map_err(malformed)?;
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Field(name.into()));
                rest = after;
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        if !pieces.iter().any(|piece| matches!(piece, Piece::Field(_))) {
            return Err(malformed("it names no field"));
        }
        Ok(Self { pieces })
    }

    /// The names of its fields.
    pub fn fields<'a>(&'a self) -> Vec<&'a str> {
        let name = |piece: &'a Piece| {
            if let Piece::Field(name) = piece {
                Some(name.as_str())
            } else {
                None
            }
        };
        self.pieces.iter().filter_map(name).collect()
    }

    /// The prompt of a row: the template's own text cannot be shortened, its fields can.
    ///
    /// # Errors
    /// If a field is missing, a list or an object.
    pub(crate) fn fill(&self, row: &Row) -> Result<Prompt, DataError> {
        self.pieces
            .iter()
            .try_fold(Prompt::default(), |prompt, piece| {
                Ok(match piece {
                    Piece::Text(text) => prompt.then(text.clone()),
                    Piece::Field(name) => prompt.then_field(row.text(name)?),
                })
            })
    }
}

/// The field name before the next `}`, and the text after it; or what is wrong with the name.
fn field_name(text: &str) -> Result<(&str, &str), &'static str> {
    let (name, after) = text.split_once('}').ok_or("a `{` has no `}` after it")?;
    match name.trim() {
        trimmed if trimmed.is_empty() || name.contains('{') => {
            Err("a field name is empty or has a brace in it")
        }
        trimmed => Ok((trimmed, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::place::Place;

    #[test]
    fn fields_are_filled_in_and_doubled_braces_are_braces() {
        let row = Row::from_json(r#"{"a b": "x", "n": 2}"#, Place::new("f", 1)).unwrap();
        let prompt = Template::parse("{{\"{a b}\"}} {n}{n}:")
            .unwrap()
            .fill(&row)
            .unwrap();
        assert_eq!(prompt.text(), "{\"x\"} 22:");
        assert_eq!(
            prompt
                .parts
                .iter()
                .map(|part| part.may_lose)
                .collect::<Vec<_>>(),
            [false, true, false, true, true, false]
        );
    }

    #[test]
    fn a_template_that_cannot_be_used_says_why() {
        for (template, why) in [
            ("{a", "has no `}`"),
            ("a}", "has no `{`"),
            ("{}", "is empty"),
            ("{a{b}", "a brace in it"),
            ("abc", "names no field"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
            assert!(error.hint().unwrap().contains("{text}"));
        }
    }
}
