//! Python objects that minijinja does not distinguish from lists: ranges, generators, dict views.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{DynObject, Enumerator, Object, ObjectRepr, Rest};
use minijinja::{Error, ErrorKind, State, Value};

use super::limits::refused;

/// The maximum length of a range, as in Jinja2's sandbox.
const LONGEST_RANGE: usize = 100_000;

/// `range(start, stop, step)`.
#[derive(Debug)]
pub(super) struct Range {
    start: i64,
    stop: i64,
    step: i64,
    length: usize,
}

impl Range {
    /// # Errors
    /// If it has more than [`LONGEST_RANGE`] numbers, or a step of 0.
    pub fn called(first: i64, second: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
        let (start, stop) = second.map_or((0, first), |stop| (first, stop));
        let step = step.unwrap_or(1);
        let distance = i128::from(stop) - i128::from(start);
        let length = match step {
            0 => return Err(refused("a range has the step 0")),
            step => {
                let step = i128::from(step);
                ((distance + step - step.signum()) / step).max(0)
            }
        };
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= LONGEST_RANGE);
        let length = length
            .ok_or_else(|| refused(format!("a range has more than {LONGEST_RANGE} numbers")))?;
        Ok(Value::from_object(Self {
            start,
            stop,
            step,
            length,
        }))
    }

    /// As printed by Python.
    pub fn text(&self) -> String {
        match self.step {
            1 => format!("range({}, {})", self.start, self.stop),
            step => format!("range({}, {}, {step})", self.start, self.stop),
        }
    }
}

impl Object for Range {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let index = key.as_i64()?;
        let index = if index < 0 {
            index + self.length as i64
        } else {
            index
        };
        let inside = (0..self.length as i64).contains(&index);
        inside.then(|| Value::from(self.start + index * self.step))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.length)
    }

    /// Ranges are compared without enumerating them.
    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<std::cmp::Ordering> {
        let other = other.downcast_ref::<Self>()?;
        let key = |range: &Self| match range.length {
            0 => (0, 0, 0),
            1 => (1, range.start, 0),
            length => (length, range.start, range.step),
        };
        Some(key(self).cmp(&key(other)))
    }
}

/// The result of `map`, `select` and similar: true whatever its items, without a length, and empty
/// after it has been read.
#[derive(Debug)]
pub(super) struct Generator(Mutex<Vec<Value>>);

impl Generator {
    /// A generator of these values.
    pub fn of(values: Vec<Value>) -> Value {
        Value::from_object(Self(Mutex::new(values)))
    }
}

impl Object for Generator {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Enumerator::Values(std::mem::take(&mut values))
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        None
    }

    fn is_true(self: &Arc<Self>) -> bool {
        true
    }
}

/// A dict with its keys in insertion order.
#[derive(Debug, Default)]
pub(super) struct Dict(Vec<(Value, Value)>);

impl Dict {
    /// A dict of these pairs; for a repeated key the first pair decides the position, the last the
    /// value.
    pub fn of(pairs: impl IntoIterator<Item = (Value, Value)>) -> Value {
        let mut dict = Self::default();
        let mut places = BTreeMap::new();
        for (key, value) in pairs {
            let place = *places.entry(key.clone()).or_insert(dict.0.len());
            match dict.0.get_mut(place) {
                Some((_, known)) => *known = value,
                None => dict.0.push((key, value)),
            }
        }
        Value::from_object(dict)
    }
}

impl Object for Dict {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.0.iter().map(|(key, _)| key.clone()).collect())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.0.len())
    }
}

/// `dict.items()`, `dict.keys()` and `dict.values()`.
#[derive(Debug)]
pub(super) struct DictView {
    /// `dict_items`, `dict_keys` or `dict_values`.
    pub name: &'static str,
    pub items: Vec<Value>,
}

impl Object for DictView {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Iterable
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.items.clone())
    }

    fn enumerator_len(self: &Arc<Self>) -> Option<usize> {
        Some(self.items.len())
    }
}

/// `cycler(…)`: its values in turn, repeated.
#[derive(Debug)]
pub(super) struct Cycler {
    items: Vec<Value>,
    position: Mutex<usize>,
}

impl Cycler {
    /// # Errors
    /// If it has no values.
    pub fn called(items: Rest<Value>) -> Result<Value, Error> {
        if items.is_empty() {
            return Err(refused("a cycler is given nothing"));
        }
        Ok(Value::from_object(Self {
            items: items.0,
            position: Mutex::new(0),
        }))
    }
}

impl Object for Cycler {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let position = *self.position.lock().unwrap_or_else(PoisonError::into_inner);
        (key.as_str() == Some("current")).then(|| self.items[position].clone())
    }

    fn call_method(
        self: &Arc<Self>,
        _: &mut State<'_, '_>,
        method: &str,
        _: &[Value],
    ) -> Result<Value, Error> {
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        match method {
            "next" => {
                let item = self.items[*position].clone();
                *position = (*position + 1) % self.items.len();
                Ok(item)
            }
            "reset" => {
                *position = 0;
                Ok(Value::from(()))
            }
            _ => Err(ErrorKind::UnknownMethod.into()),
        }
    }
}

/// `joiner(sep)`: empty at the first call, then the separator.
#[derive(Debug)]
pub(super) struct Joiner {
    between: Value,
    used: AtomicBool,
}

impl Joiner {
    pub fn called(between: Option<Value>) -> Value {
        let between = between.unwrap_or_else(|| Value::from(", "));
        Value::from_object(Self {
            between,
            used: AtomicBool::new(false),
        })
    }
}

impl Object for Joiner {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, _: &[Value]) -> Result<Value, Error> {
        Ok(match self.used.swap(true, Ordering::Relaxed) {
            true => self.between.clone(),
            false => Value::from(""),
        })
    }
}
