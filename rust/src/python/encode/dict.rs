//! Writing dicts in JSONB's order of keys, and recording their own order.

use std::borrow::Cow;
use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::Encoder;
use crate::order::Keys;
use crate::python::errors::{Converted, Failure};
use crate::python::objects;
use crate::python::plan::Node;
use crate::python::strings::stored;
use crate::write::{self, jsonb_key_order};

/// The most tables that are remembered.
const MOST_TABLES: usize = 16;

impl<'py> Encoder<'py, '_> {
    /// Appends the members of a dict, and returns where they begin. If a key is not a string, appends none
    /// and returns foreign.
    pub(super) fn take_members(&mut self, dict: &Bound<'py, PyDict>) -> Converted<usize> {
        let (start, begin) = (self.members.len(), self.keys.len());
        for (key, value) in dict.iter() {
            let Ok(key) = key.cast_into_exact::<PyString>() else {
                self.members.truncate(start);
                self.keys.truncate(begin);
                return Err(Failure::Foreign);
            };
            let from = self.keys.len();
            let text = stored(&key)?;
            self.keys.push_str(&text);
            let plain = matches!(text, Cow::Borrowed(_)).then(|| key.clone());
            self.members.push(Member { text: from..self.keys.len(), plain, value: Some(value) });
        }
        Ok(start)
    }

    /// Writes the members from `start` on as an object; `inner` says what is known of a value by its key. The
    /// order of those of a model's dict is the model's: it is not recorded.
    pub(super) fn object<'n>(
        &mut self,
        start: usize,
        record: bool,
        inner: impl Fn(&str) -> Inner<'n>,
        depth: usize,
    ) -> Converted<()> {
        let (members, texts) = (&self.members[start..], &self.keys);
        let key = |place: usize| &texts[members[place].text.clone()];
        let count = members.len();
        // The places of the members in stored order; empty if that is their own order.
        let mut places = Vec::new();
        let index = self.order.begin_object();
        if self.sorted && !(1..count).all(|place| jsonb_key_order(key(place - 1), key(place)).is_lt()) {
            places.extend(0..count);
            places.sort_by(|left, right| jsonb_key_order(key(*left), key(*right)));
        }
        let mut keys = Keys::default();
        (0..count).for_each(|nth| keys.add(key(nth_place(&places, nth))));
        if record {
            let appended = appended(&places);
            let again = self.order.record(index, keys, appended.as_deref());
            if again && self.tables.len() < MOST_TABLES {
                self.tables.extend(Table::new(members, texts, &places, keys, appended));
            }
        } else {
            self.order.pass(index, keys);
        }
        let begin = members.first().map_or(self.keys.len(), |member| member.text.start);
        self.out.push(b'{');
        let mut first = true;
        for nth in 0..count {
            self.separate(&mut first);
            let Member { text, value, .. } = &mut self.members[start + nth_place(&places, nth)];
            let key = &self.keys[text.clone()];
            write::stored_string(&mut self.out, key);
            self.out.push(b':');
            if let (inner, Some(value)) = (inner(key), value.take()) {
                self.inner(inner, &value, depth)?;
            }
        }
        self.members.truncate(start);
        self.keys.truncate(begin);
        self.out.push(b'}');
        Ok(())
    }

    fn inner(&mut self, inner: Inner<'_>, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        match inner {
            Inner::Instances(node) => self.value(node, value, depth + 1),
            Inner::Values(node) => self.tree(node, value, depth + 1),
        }
    }

    /// Writes a dict that has the keys of earlier ones; gives whether it has.
    pub(super) fn row(
        &mut self,
        dict: &Bound<'py, PyDict>,
        inner: Inner<'_>,
        depth: usize,
    ) -> Converted<bool> {
        if self.tables.is_empty() {
            return Ok(false);
        }
        let start = self.values.len();
        let fits = |table: &Table<'py>| {
            let mut keys = table.keys.iter();
            table.keys.len() == dict.len()
                && objects::while_items(dict, |key, value| {
                    let same = keys.next().is_some_and(|known| known.as_ptr() == key.as_ptr());
                    if same {
                        self.values.push(Some(value.to_owned()));
                    } else {
                        self.values.truncate(start);
                    }
                    same
                })
        };
        let Some(found) = self.tables.iter().position(fits) else {
            return Ok(false);
        };
        let table = &self.tables[found];
        let index = self.order.begin_object();
        self.order.record(index, table.print, table.appended.as_deref());
        let (mut begin, mut before) = (b'{', 0);
        for nth in 0..self.values.len() - start {
            let table = &self.tables[found];
            let (place, end) = table.members[nth];
            self.out.push(begin);
            self.out.extend_from_slice(&table.quoted[before..end]);
            (begin, before) = (b',', end);
            if let Some(value) = self.values[start + place].take() {
                self.inner(inner, &value, depth)?;
            }
        }
        self.values.truncate(start);
        self.out.push(b'}');
        Ok(true)
    }
}

/// The place of the n-th member in some order; no places at all stand for the order they are in.
fn nth_place(places: &[usize], nth: usize) -> usize {
    places.get(nth).copied().unwrap_or(nth)
}

/// For each member its place among the stored ones, from the place of each stored one.
fn appended(places: &[usize]) -> Option<Vec<usize>> {
    let mut appended = vec![0; places.len()];
    for (nth, place) in places.iter().enumerate() {
        appended[*place] = nth;
    }
    (!places.is_empty()).then_some(appended)
}

/// The keys that several dicts have in common, ready to be written.
pub struct Table<'py> {
    /// In the order in which they come.
    keys: Vec<Bound<'py, PyString>>,
    /// Of each key as stored: its place in `keys`, and where it ends in `quoted`.
    members: Vec<(usize, usize)>,
    /// The keys as stored, each in quotes and with its colon.
    quoted: Vec<u8>,
    print: Keys,
    appended: Option<Vec<usize>>,
}

impl<'py> Table<'py> {
    /// The keys of these members; none where a key is not stored as it is, and none for no keys at all.
    fn new(
        members: &[Member<'py>],
        texts: &str,
        places: &[usize],
        print: Keys,
        appended: Option<Vec<usize>>,
    ) -> Option<Self> {
        let keys: Vec<_> = members.iter().map(|member| member.plain.clone()).collect::<Option<_>>()?;
        let mut quoted = Vec::new();
        let member = |nth| {
            let place = nth_place(places, nth);
            write::stored_string(&mut quoted, &texts[members[place].text.clone()]);
            quoted.push(b':');
            (place, quoted.len())
        };
        let members = (0..keys.len()).map(member).collect();
        (!keys.is_empty()).then_some(Self { keys, members, quoted, print, appended })
    }
}

/// A member of a dict.
pub struct Member<'py> {
    /// Where the key is in [`Encoder::keys`], in stored form.
    text: Range<usize>,
    /// The key, if that is stored as it is.
    plain: Option<Bound<'py, PyString>>,
    value: Option<Bound<'py, PyAny>>,
}

/// What is known of a value in a dict.
#[derive(Clone, Copy)]
pub enum Inner<'n> {
    /// For [`Encoder::value`].
    Instances(&'n Node),
    /// For [`Encoder::tree`].
    Values(Option<&'n Node>),
}
