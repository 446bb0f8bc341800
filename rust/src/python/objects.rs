//! All of the crate's `unsafe`: making pydantic instances without running their `__init__`.
#![allow(unsafe_code)]

pub mod snapshot;

use std::ops::RangeInclusive;

use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods, PyDict, PyInt, PySet, PyString, PyTuple, PyType};

/// Holds off the cyclic garbage collector until dropped.
///
/// Everything that a read makes stays alive until it returns, so a collection meanwhile finds nothing. The
/// objects of 1,000 events start about thirty collections, which took about as long as making the objects
/// (11.3 µs an event with them, 6.1 without).
pub struct CollectorPause {
    was_enabled: bool,
}

impl CollectorPause {
    /// Pauses the collector of the current interpreter.
    pub fn new(_attached: Python<'_>) -> Self {
        // SAFETY: takes no argument, and the token shows that this thread is attached to the interpreter.
        Self { was_enabled: unsafe { ffi::PyGC_Disable() } == 1 }
    }
}

impl Drop for CollectorPause {
    fn drop(&mut self) {
        if self.was_enabled {
            // SAFETY: as above; a pause does not outlive the call that made it, which holds the token.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}

/// Where an instance of a pydantic model keeps what is not in its `__dict__`: byte offsets of the three
/// `__slots__` that `pydantic.BaseModel` declares, the same in every subclass.
pub struct SlotOffsets {
    /// `__pydantic_fields_set__`
    fields_set: ffi::Py_ssize_t,
    /// `__pydantic_extra__`
    extra: ffi::Py_ssize_t,
    /// `__pydantic_private__`
    private: ffi::Py_ssize_t,
}

/// The head of `CPython`'s `PyMemberDescrObject` (`Include/cpython/descrobject.h`, the same from 3.10 on).
#[repr(C)]
struct MemberDescriptor {
    head: ffi::PyObject,
    class: *mut ffi::PyTypeObject,
    name: *mut ffi::PyObject,
    qualified_name: *mut ffi::PyObject,
    member: *mut ffi::PyMemberDef,
}

impl SlotOffsets {
    /// Looks the offsets up in `pydantic.BaseModel`'s member descriptors.
    pub fn of(base: &Bound<'_, PyType>) -> PyResult<Self> {
        let descriptor_type = base.py().import("types")?.getattr("MemberDescriptorType")?;
        let offset = |name: &str| {
            let descriptor = base.getattr(name)?;
            if !descriptor.get_type().is(&descriptor_type) {
                return Err(PyTypeError::new_err(format!("{name} of pydantic.BaseModel is not a slot")));
            }
            // SAFETY: the type of the object was checked, so it has this layout and its member definition
            // lives as long as the class.
            let member = unsafe { &*(*descriptor.as_ptr().cast::<MemberDescriptor>()).member };
            if member.type_code != ffi::Py_T_OBJECT_EX || member.offset <= 0 {
                return Err(PyTypeError::new_err(format!(
                    "{name} of pydantic.BaseModel is not an object slot"
                )));
            }
            Ok(member.offset)
        };
        Ok(Self {
            fields_set: offset("__pydantic_fields_set__")?,
            extra: offset("__pydantic_extra__")?,
            private: offset("__pydantic_private__")?,
        })
    }
}

/// What makes up an instance.
pub struct Contents<'py> {
    /// `__dict__`
    pub dict: Bound<'py, PyDict>,
    /// `__pydantic_fields_set__`
    pub fields_set: Bound<'py, PySet>,
    /// `__pydantic_private__`: a dict or `None`.
    pub private: Bound<'py, PyAny>,
}

/// An instance of `class`, a subclass of `pydantic.BaseModel`, that no `__init__` or validator has seen.
///
/// `object.__setattr__` does the same in 60 ns an instance more; an event has six instances.
pub fn new_instance<'py>(
    class: &Bound<'py, PyType>,
    offsets: &SlotOffsets,
    contents: Contents<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let arguments = PyTuple::empty(py);
    // SAFETY: `class` is a live type object, so its slots may be read while attached to the interpreter;
    // `tp_new` takes the type, a tuple and a null keyword dict, and returns a new reference or null with
    // an exception set, which is what `from_owned_ptr_or_err` expects.
    let instance = unsafe {
        let Some(new) = (*class.as_type_ptr()).tp_new else {
            return Err(PyTypeError::new_err("the class has no __new__"));
        };
        let instance = new(class.as_type_ptr(), arguments.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(py, instance)?
    };
    // SAFETY: two live objects; the function takes its own reference to the dict and returns -1 with an
    // exception set on failure.
    let status = unsafe {
        ffi::PyObject_GenericSetDict(instance.as_ptr(), contents.dict.as_ptr(), std::ptr::null_mut())
    };
    if status != 0 {
        return Err(PyErr::fetch(py));
    }
    let slots = [
        (offsets.fields_set, contents.fields_set.into_any()),
        (offsets.extra, py.None().into_bound(py)),
        (offsets.private, contents.private),
    ];
    for (offset, value) in slots {
        // SAFETY: the offset is that of an object slot of a base class of `class`, so it lies within the
        // instance and is aligned for a pointer; the slot owns the reference that `into_ptr` gives up, and
        // releases that of what `tp_new` left there, which is null.
        unsafe {
            let slot = instance.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>();
            let before = std::mem::replace(&mut *slot, value.into_ptr());
            ffi::Py_XDECREF(before);
        }
    }
    Ok(instance)
}

/// What an instance has in the three slots of `pydantic.BaseModel`: set names, extra, private attributes; `None`
/// where one of them is empty.
pub fn slots<'py>(instance: &Bound<'py, PyAny>, offsets: &SlotOffsets) -> Option<[Bound<'py, PyAny>; 3]> {
    let slot = |offset: ffi::Py_ssize_t| {
        // SAFETY: the caller has an instance of a subclass of `pydantic.BaseModel`, so the offset is that of an
        // object slot within it; a slot that is not null owns a reference to a live object.
        unsafe {
            let value = *instance.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>();
            Bound::from_borrowed_ptr_or_opt(instance.py(), value)
        }
    };
    Some([slot(offsets.fields_set)?, slot(offsets.extra)?, slot(offsets.private)?])
}

/// How many references there are to an object.
pub fn references(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether there is a weak reference to an object.
pub fn has_weak_references(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object; where its type says that it has a list of weak references, the list's head is at
    // that offset. Types that keep the list before the object say so by another flag and a negative offset.
    unsafe {
        let offset = (*(*object.as_ptr()).ob_type).tp_weaklistoffset;
        if offset == 0 {
            return false;
        }
        let list = object.as_ptr().byte_offset(offset).cast::<*mut ffi::PyObject>();
        !(*list).is_null()
    }
}

/// A set equal to `names`: copying one takes a third of the time of adding its elements.
pub fn copy_set<'py>(names: &Bound<'py, PySet>) -> PyResult<Bound<'py, PySet>> {
    // SAFETY: `names` is a live set; the result is a new reference to an exact set, or null with an
    // exception set.
    unsafe {
        Ok(Bound::from_owned_ptr_or_err(names.py(), ffi::PySet_New(names.as_ptr()))?.cast_into_unchecked())
    }
}

/// The `__dict__` of an instance.
pub fn dict<'py>(instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a live object; the result is a new reference or null with an exception set, for an object
    // without a dict as well.
    let dict = unsafe {
        let dict = ffi::PyObject_GenericGetDict(instance.as_ptr(), std::ptr::null_mut());
        Bound::from_owned_ptr_or_err(instance.py(), dict)?
    };
    Ok(dict.cast_into::<PyDict>()?)
}

/// Calls `each` with the keys and values of a dict while it says to go on; gives whether it always did. What
/// it does with them must not change the dict: the callers compare pointers and count references up.
#[inline]
pub fn while_items<'py>(
    dict: &Bound<'py, PyDict>,
    mut each: impl FnMut(Borrowed<'_, 'py, PyAny>, Borrowed<'_, 'py, PyAny>) -> bool,
) -> bool {
    let py = dict.py();
    let (mut position, mut key, mut value) = (0, std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: a live dict and three places to write to; true means that both pointers were set to
    // references that the dict owns, which hold while it is not changed, and so for the call of `each`.
    unsafe {
        while ffi::PyDict_Next(dict.as_ptr(), &raw mut position, &raw mut key, &raw mut value) != 0 {
            if !each(Borrowed::from_ptr(py, key), Borrowed::from_ptr(py, value)) {
                return false;
            }
        }
    }
    true
}

/// Whether the entries of dicts may be read where they lie; see [`each_present`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DictLayout {
    is_known: bool,
}

/// The head of `CPython`'s `struct _dictkeysobject` (`Include/internal/pycore_dict.h`, the same from 3.11 to
/// 3.14, without free threading). An index table follows, then the entries.
#[repr(C)]
struct DictKeys {
    references: ffi::Py_ssize_t,
    log2_size: u8,
    log2_index_bytes: u8,
    kind: u8,
    version: u32,
    usable: ffi::Py_ssize_t,
    entries: ffi::Py_ssize_t,
}

/// `DICT_KEYS_UNICODE`: all keys are strings, and an entry is a key and a value.
const UNICODE_KEYS: u8 = 1;

/// A key and a value. Neither is null unless the member was removed: then both are.
type Entry = [*mut ffi::PyObject; 2];

/// The versions 3.x whose dicts are read by their layout.
///
/// Only those on which tests of it have passed: the contract, fidelity, lanes and unit suites on 3.11.7 and 3.12.1;
/// on 3.13.0 the comparison with pydantic (`tests/fidelity/test_differential.py`) and the contract of appends and
/// reads. Others go through `PyDict_Next`, which is right everywhere: 3.10, whose dicts are laid out differently, and
/// 3.14, on which nothing has been run. Whoever has run `make test-pythons` on a newer version adds it here and to
/// `tests/unit/test_interpreter.py`.
const TESTED: RangeInclusive<u8> = 11..=13;

impl DictLayout {
    /// Tries the layout on dicts of several sizes, in the versions that were tested.
    pub fn of(py: Python<'_>) -> PyResult<Self> {
        let version = py.version_info();
        let mut is_known = version.major == 3 && TESTED.contains(&version.minor);
        let dict = PyDict::new(py);
        for number in 0..300 {
            dict.set_item(format!("key {number}"), number)?;
            let mut expected: Vec<Entry> = Vec::with_capacity(dict.len());
            while_items(&dict, |key, value| {
                expected.push([key.as_ptr(), value.as_ptr()]);
                true
            });
            is_known = is_known && entries(&dict).is_some_and(|entries| entries == expected);
        }
        Ok(Self { is_known })
    }

    /// Whether it is used.
    pub fn is_known(self) -> bool {
        self.is_known
    }
}

/// The entries of a dict whose keys are all strings and in a table of its own, if this can be told.
fn entries<'d>(dict: &'d Bound<'_, PyDict>) -> Option<&'d [Entry]> {
    // SAFETY: a live dict, whose head pyo3 declares. Its keys are never null, and the interpreter is attached,
    // so they stay as they are while the dict is borrowed and no Python code runs. What follows them has the
    // layout above in the versions that `DictLayout` admits, and numbers that do not fit together are not
    // followed anywhere.
    unsafe {
        let dict = &*dict.as_ptr().cast::<ffi::PyDictObject>();
        if !dict.ma_values.is_null() {
            return None;
        }
        let keys = dict.ma_keys.cast::<DictKeys>();
        let DictKeys { log2_size, log2_index_bytes, kind, entries, .. } = *keys;
        let count = usize::try_from(entries).ok()?;
        let fits = kind == UNICODE_KEYS
            && log2_size < 32
            && (log2_size..log2_size + 4).contains(&log2_index_bytes)
            && count < 1 << log2_size;
        let first = keys.add(1).byte_add(1usize.checked_shl(log2_index_bytes.into())?);
        fits.then(|| std::slice::from_raw_parts(first.cast::<Entry>(), count))
    }
}

/// Calls `each` with the place and the value of each member that is not `None`, if the keys of a dict are
/// these very names in this order; gives whether they are. If not, some of the calls may have been made.
/// `each` must not change the dict.
///
/// An event has a hundred fields in its models, most of them `None`. `PyDict_Next` takes 45 instructions for
/// each, which was a third of the time for writing an event; looking at the entries takes six.
#[inline]
pub fn each_present<'py>(
    dict: &Bound<'py, PyDict>,
    names: &[Py<PyString>],
    layout: DictLayout,
    mut each: impl FnMut(usize, Borrowed<'_, 'py, PyAny>),
) -> bool {
    let py = dict.py();
    if layout.is_known
        && let Some(entries) = entries(dict)
    {
        let same = |(entry, name): (&Entry, &Py<PyString>)| entry[0] == name.as_ptr();
        if entries.len() != names.len() || !entries.iter().zip(names).all(same) {
            return false;
        }
        // SAFETY: borrows the immortal `None`.
        let none = unsafe { ffi::Py_None() };
        for (place, [_, value]) in entries.iter().enumerate().filter(|(_, [_, value])| *value != none) {
            // SAFETY: the key of this entry is not null, so the value is not, and the dict owns it.
            each(place, unsafe { Borrowed::from_ptr(py, *value) });
        }
        return true;
    }
    let mut expected = names.iter().enumerate();
    while_items(dict, |name, value| match expected.next() {
        Some((place, expected)) if expected.as_ptr() == name.as_ptr() => {
            if !value.is_none() {
                each(place, value);
            }
            true
        }
        _ => false,
    }) && expected.next().is_none()
}

/// The Python string of a text, if that is ASCII.
///
/// `PyString::new` looks at the bytes once more and takes twice as long for a short text.
pub fn ascii<'py>(py: Python<'py>, text: &str) -> PyResult<Option<Bound<'py, PyString>>> {
    if !text.is_ascii() {
        return Ok(None);
    }
    // Python has these already.
    if text.len() < 2 {
        return Ok(Some(PyString::new(py, text)));
    }
    // A slice is never longer than `isize::MAX`.
    let length = text.len().cast_signed();
    // SAFETY: the result is a new reference to a string of this length whose characters take a byte each and
    // are not set yet, or null with an exception set. Nobody else has it, and all its bytes are set to ASCII.
    unsafe {
        let made = Bound::from_owned_ptr_or_err(py, ffi::PyUnicode_New(length, 127))?;
        let data = ffi::PyUnicode_1BYTE_DATA(made.as_ptr());
        std::ptr::copy_nonoverlapping(text.as_ptr(), data, text.len());
        Ok(Some(made.cast_into_unchecked()))
    }
}

/// What a value that cannot be changed weighs: the size of its object, rounded up.
pub fn leaf_bytes(value: &Bound<'_, PyAny>) -> usize {
    if let Ok(text) = value.cast::<PyString>() {
        // SAFETY: a live string; both read its head.
        let (length, kind) =
            unsafe { (ffi::PyUnicode_GET_LENGTH(text.as_ptr()), ffi::PyUnicode_KIND(text.as_ptr())) };
        // The kind is the size of a character in bytes.
        return 80 + length.unsigned_abs() * kind as usize;
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return 48 + bytes.as_bytes().len();
    }
    if value.is_exact_instance_of::<PyInt>() && value.extract::<i64>().is_err() {
        // Decimal digits that a bigint does not hold: numeric has up to 131,072 of them.
        let bits = value.call_method0(intern!(value.py(), "bit_length")).and_then(|bits| bits.extract());
        return 48 + bits.unwrap_or(0usize) / 7;
    }
    // Floats and integers; `None`, booleans and members of enumerations are there anyway.
    32
}
