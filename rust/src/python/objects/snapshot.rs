//! A snapshot of an event: what its parts were when it was handed out. A later check compares.
//!
//! Every change gives a dict a new version number (PEP 509). So one number is enough to compare a dict of 25
//! fields. Comparing its members one by one took ten times as long.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet};

use super::{SlotOffsets, has_weak_references};

/// The kinds of entries of a snapshot. The lowest bits of an entry's first word are its kind.
const DICT: usize = 0;
const LIST: usize = 1;
const INSTANCE: usize = 2;
const KIND_BITS: u32 = 2;

/// The objects of an event that can be changed. Each comes after the object that refers to it.
///
/// An address is followed only after the object that refers to it was found unchanged. The reference of that
/// object keeps the address valid.
pub struct Snapshot(Box<[usize]>);

/// A snapshot that is being made.
#[derive(Default)]
pub struct Notes(Vec<usize>);

/// Whether the dicts of this interpreter have version numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DictVersions {
    is_known: bool,
}

impl DictVersions {
    /// Tries whether each change gives a new number. Python 3.14 has no such numbers any more.
    pub fn of(py: Python<'_>) -> PyResult<Self> {
        let version = py.version_info();
        let mut is_known = version.major == 3 && version.minor < 14;
        let (dict, other) = (PyDict::new(py), PyDict::new(py));
        let mut seen = vec![version_of(&other)];
        for number in 0..20 {
            dict.set_item(number, number)?;
            seen.push(version_of(&dict));
            dict.set_item(number, py.None())?;
            seen.push(version_of(&dict));
        }
        dict.del_item(7)?;
        seen.push(version_of(&dict));
        is_known = is_known && dict.get_item(8)?.is_some() && version_of(&dict) == *seen.last().unwrap_or(&0);
        dict.clear();
        seen.push(version_of(&dict));
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        Ok(Self { is_known: is_known && seen.len() == count && !seen.contains(&0) })
    }

    /// Whether they do.
    pub fn is_known(self) -> bool {
        self.is_known
    }
}

/// The version number of a dict. It stays the same until the dict is changed; 0 means that there is none.
fn version_of(dict: &Bound<'_, PyDict>) -> u64 {
    // SAFETY: a live dict.
    unsafe { version(dict.as_ptr()) }
}

/// The head of `CPython`'s `PyDictObject` (`Include/cpython/dictobject.h`, the same from 3.6 to 3.13).
#[repr(C)]
struct DictHead {
    head: ffi::PyObject,
    used: ffi::Py_ssize_t,
    version: u64,
}

/// # Safety
///
/// `dict` is a live dict. From 3.14 on, these bytes mean something else.
unsafe fn version(dict: *mut ffi::PyObject) -> u64 {
    unsafe { (*dict.cast::<DictHead>()).version }
}

impl Notes {
    /// Notes a dict.
    pub fn dict(&mut self, dict: &Bound<'_, PyDict>) {
        self.0.extend([DICT, address(dict), word(version_of(dict))]);
    }

    /// Notes a list and the addresses of its items.
    pub fn list(&mut self, list: &Bound<'_, PyList>) {
        self.0.extend([LIST | list.len() << KIND_BITS, address(list)]);
        self.0.extend(list.iter().map(|item| address(&item)));
    }

    /// Notes an instance, its dict, its set of field names, and its private attributes.
    pub fn instance(
        &mut self,
        instance: &Bound<'_, PyAny>,
        dict: &Bound<'_, PyDict>,
        names: &Bound<'_, PySet>,
        private: &Bound<'_, PyAny>,
    ) {
        let private_version = private.cast_exact::<PyDict>().map_or(0, version_of);
        self.0.extend([
            INSTANCE | names.len() << KIND_BITS,
            address(instance),
            instance.get_type().as_ptr() as usize,
            address(dict),
            word(version_of(dict)),
            address(names),
            address(private),
            word(private_version),
        ]);
        // SAFETY: the set is alive, and only the addresses of its elements are read.
        self.0.extend(unsafe { elements(names.as_ptr()) });
    }

    /// The snapshot; `None` if the dicts of this interpreter have no version numbers.
    pub fn finish(self, versions: DictVersions) -> Option<Snapshot> {
        versions.is_known().then(|| Snapshot(self.0.into()))
    }
}

impl Snapshot {
    /// Bytes of memory.
    pub fn nbytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Whether the event is as it was when the snapshot was made, and nobody else has it or a part of it.
    pub fn is_true_of(&self, event: &Bound<'_, PyAny>, slots: &SlotOffsets) -> bool {
        let mut words = &*self.0;
        // SAFETY: the first object is the event, and it is alive. Every other object was noted after the
        // object that refers to it. That object was already found unchanged: it has the same members of the
        // same dict, or items at the same addresses of the same list. So it still refers to an object at the
        // noted address, and keeps that alive. It may be another object of another type: a list's item can be
        // replaced by one that came to lie there. So each check compares the type first.
        unsafe {
            debug_assert_eq!(words.get(1).copied(), Some(address(event)));
            while let Some((&kind, rest)) = words.split_first() {
                let same = match (kind & ((1 << KIND_BITS) - 1), rest) {
                    (DICT, [dict, version, rest @ ..]) => {
                        words = rest;
                        is_dict(*dict, *version, 1)
                    }
                    (LIST, [list, rest @ ..]) => {
                        let (items, rest) = rest.split_at(kind >> KIND_BITS);
                        words = rest;
                        is_list(*list, items)
                    }
                    (
                        INSTANCE,
                        [instance, class, dict, version, set, private, private_version, rest @ ..],
                    ) => {
                        let (names, rest) = rest.split_at(kind >> KIND_BITS);
                        words = rest;
                        let parts = [*dict, *version, *set, *private, *private_version];
                        is_instance(event.py(), (*instance, *class), parts, names, slots)
                    }
                    _ => false,
                };
                if !same {
                    return false;
                }
            }
        }
        true
    }
}

fn address<T>(object: &Bound<'_, T>) -> usize {
    object.as_ptr() as usize
}

/// A version number as a word. On targets of 32 bits it is the lower half.
#[expect(clippy::cast_possible_truncation, reason = "a target has at least 32 bits")]
fn word(version: u64) -> usize {
    version as usize
}

/// # Safety
///
/// `dict` is the address of a live object.
unsafe fn is_dict(dict: usize, noted: usize, references: isize) -> bool {
    let dict = dict as *mut ffi::PyObject;
    unsafe {
        ffi::PyDict_CheckExact(dict) != 0
            && ffi::Py_REFCNT(dict) == references
            && word(version(dict)) == noted
    }
}

/// # Safety
///
/// `list` is the address of a live object.
unsafe fn is_list(list: usize, items: &[usize]) -> bool {
    let list = list as *mut ffi::PyObject;
    unsafe {
        ffi::PyList_CheckExact(list) != 0
            && ffi::Py_REFCNT(list) == 1
            && ffi::PyList_GET_SIZE(list).unsigned_abs() == items.len()
            && items.iter().zip(0..).all(|(item, place)| ffi::PyList_GET_ITEM(list, place) as usize == *item)
    }
}

/// # Safety
///
/// `instance` is the address of a live object.
unsafe fn is_instance(
    py: Python<'_>,
    (instance, class): (usize, usize),
    [dict, dict_version, set, private, private_version]: [usize; 5],
    names: &[usize],
    slots: &SlotOffsets,
) -> bool {
    let instance = instance as *mut ffi::PyObject;
    unsafe {
        if ffi::Py_REFCNT(instance) != 1 || ffi::Py_TYPE(instance) as usize != class {
            return false;
        }
        let slot = |offset| *instance.byte_offset(offset).cast::<*mut ffi::PyObject>();
        let (its_set, extra, its_private) = (slot(slots.fields_set), slot(slots.extra), slot(slots.private));
        if its_set as usize != set || its_private as usize != private || extra != ffi::Py_None() {
            return false;
        }
        let its_dict = ffi::PyObject_GenericGetDict(instance, std::ptr::null_mut());
        if its_dict.is_null() {
            ffi::PyErr_Clear();
            return false;
        }
        let same_dict = its_dict as usize == dict && is_dict(dict, dict_version, 2);
        ffi::Py_DECREF(its_dict);
        same_dict
            && (private_version == 0 || is_dict(private, private_version, 1))
            && is_set(its_set, names)
            && !has_weak_references(&Borrowed::from_ptr(py, instance))
    }
}

/// Whether an object is a set with the noted elements in the same places, and nobody else has it.
///
/// # Safety
///
/// `set` is a live object.
unsafe fn is_set(set: *mut ffi::PyObject, names: &[usize]) -> bool {
    unsafe {
        ffi::PySet_CheckExact(set) != 0
            && ffi::Py_REFCNT(set) == 1
            && (*set.cast::<ffi::PySetObject>()).weakreflist.is_null()
            && elements(set).eq(names.iter().copied())
    }
}

/// The addresses of the elements of a set, in the order of its table. The marks of removed elements are
/// among them.
///
/// # Safety
///
/// `set` is a live set. It is not changed as long as the result is used.
unsafe fn elements(set: *mut ffi::PyObject) -> impl Iterator<Item = usize> {
    // SAFETY: a table has one entry more than its mask.
    let entries = unsafe {
        let set = &*set.cast::<ffi::PySetObject>();
        std::slice::from_raw_parts(set.table, set.mask.unsigned_abs() + 1)
    };
    entries.iter().map(|entry| entry.key as usize).filter(|key| *key != 0)
}
