//! Sealed values: AES-256-GCM, bound to the place where the value is kept.
//!
//! A sealed value is an envelope: [`LEAD`], the key's id, a colon, then nonce (12 bytes), ciphertext and
//! tag (16 bytes). A BYTEA column has these bytes as they are; a JSONB column has a JSON string with the
//! bytes behind the colon in base64, so that the column keeps its type and `state || delta` still merges by
//! key. Nothing else that this crate writes begins so: it escapes a U+FDD0 that comes from outside.
//!
//! The place is authenticated with the value: the kind of row, app name, user id, and what else tells the place
//! from others of that kind, such as session, event and column. So a value opens in its own place only.
//!
//! Keys are not used themselves. For each app and user a key is derived with HKDF-SHA256 (RFC 5869), so
//! that random nonces, which may seal 2^32 values under one key (NIST SP 800-38D, section 8.3), last for
//! 2^32 values of each user.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use base64_simd::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{hkdf, hmac};

/// What every envelope begins with. The digit is the version of its form.
pub const LEAD: &str = "\u{fdd0}seal1:";

/// Bytes of a nonce.
pub const NONCE: usize = 12;
const TAG: usize = 16;

/// The longest key id, in bytes.
pub const LONGEST_ID: usize = 64;

/// Derived keys that a [`Key`] remembers. Deriving one takes 2.6 µs.
const REMEMBERED: usize = 1024;

/// Why a value was not sealed or opened. Never holds plain text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealError {
    /// A key id is 1 to [`LONGEST_ID`] ASCII letters, digits, dots, underscores or hyphens.
    InvalidId,
    /// A key is 32 bytes.
    InvalidKey,
    /// The envelope is cut off, or is no envelope.
    Malformed,
    /// The value is sealed with another key, of this id.
    UnknownKey(String),
    /// The tag does not fit.
    Refused(String),
    /// The operating system gave no random bytes.
    NoRandom,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidId => write!(
                f,
                "a key id must be 1 to {LONGEST_ID} ASCII letters, digits, dots, underscores or hyphens"
            ),
            Self::InvalidKey => write!(f, "a key must be 32 bytes"),
            Self::Malformed => write!(f, "the sealed value is cut off or damaged"),
            Self::UnknownKey(id) => write!(f, "sealed with the key {id:?}, which is not at hand"),
            Self::Refused(id) => write!(
                f,
                "sealed with the key {id:?} and does not open: the key of this id is another one, or the \
                 value was changed, or it was moved here from another row or column"
            ),
            Self::NoRandom => write!(f, "the operating system gave no random bytes"),
        }
    }
}

impl std::error::Error for SealError {}

/// A result of sealing or opening.
pub type Result<T> = std::result::Result<T, SealError>;

/// Appends a part of the associated data behind its length, so that no two places are told by the same bytes.
fn push_part(data: &mut Vec<u8>, part: &[u8]) {
    data.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
    data.extend_from_slice(part);
}

/// A key of 256 bits and its id.
pub struct Key {
    id: String,
    secret: hkdf::Prk,
    derived: Mutex<HashMap<Vec<u8>, Arc<Derived>>>,
}

/// What is derived from a key for one app and user.
struct Derived {
    cipher: LessSafeKey,
    words: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.id)
    }
}

impl Key {
    /// Takes 32 bytes as a key.
    pub fn new(id: &str, secret: &[u8]) -> Result<Self> {
        if !is_id(id) {
            return Err(SealError::InvalidId);
        }
        if secret.len() != 32 {
            return Err(SealError::InvalidKey);
        }
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"adk-psqlpy seal 1").extract(secret);
        Ok(Self { id: id.to_owned(), secret, derived: Mutex::default() })
    }

    /// The key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn derived(&self, app: &str, user: &str) -> Arc<Derived> {
        let mut scope = Vec::with_capacity(8 + app.len() + user.len());
        scope.extend_from_slice(&(app.len() as u64).to_be_bytes());
        scope.extend_from_slice(app.as_bytes());
        scope.extend_from_slice(user.as_bytes());
        let mut known = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&scope) {
            return Arc::clone(found);
        }
        let expand = |purpose: &[u8]| {
            let mut bytes = [0; 32];
            let info = [purpose, scope.as_slice()];
            let filled = self.secret.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut bytes));
            filled.expect("32 bytes are within what HKDF-SHA256 gives");
            bytes
        };
        let cipher = UnboundKey::new(&AES_256_GCM, &expand(b"cipher")).expect("the key is 32 bytes");
        let words = hmac::Key::new(hmac::HMAC_SHA256, &expand(b"words"));
        let made = Arc::new(Derived { cipher: LessSafeKey::new(cipher), words });
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(scope, Arc::clone(&made));
        made
    }

    /// What seals and opens the values of one kind of row of one app and user.
    pub fn cipher(&self, kind: &str, app: &str, user: &str) -> Cipher {
        let mut data = Vec::with_capacity(256);
        for part in [LEAD, &self.id, kind, app, user] {
            push_part(&mut data, part.as_bytes());
        }
        let fixed = data.len();
        Cipher { id: self.id.clone(), derived: self.derived(app, user), data, fixed }
    }

    /// A word's keyed hash, of this app and user: the first half of HMAC-SHA256, four bits a letter from a to p.
    pub fn hash_word(&self, app: &str, user: &str, word: &str) -> String {
        let tag = hmac::sign(&self.derived(app, user).words, word.as_bytes());
        tag.as_ref()[..16].iter().fold(String::with_capacity(32), |mut text, byte| {
            text.extend([byte >> 4, byte & 15].map(|nibble| char::from(b'a' + nibble)));
            text
        })
    }
}

/// Seals and opens the values of one kind of row of one app and user, with one key.
pub struct Cipher {
    id: String,
    derived: Arc<Derived>,
    /// The associated data: version and key id as they stand in the envelope, kind, app and user, and the rest
    /// of the last place behind them.
    data: Vec<u8>,
    fixed: usize,
}

impl Cipher {
    /// The key's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The associated data of a place.
    fn place(&mut self, rest: &[&[u8]]) -> Aad<&[u8]> {
        self.data.truncate(self.fixed);
        for part in rest {
            push_part(&mut self.data, part);
        }
        Aad::from(&self.data)
    }

    /// Appends nonce, ciphertext and tag. The nonce must never have been used before.
    fn encrypt(&mut self, out: &mut Vec<u8>, nonce: [u8; NONCE], rest: &[&[u8]], plain: &[u8]) {
        out.reserve(NONCE + plain.len() + TAG);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let derived = Arc::clone(&self.derived);
        let (nonce, data) = (Nonce::assume_unique_for_key(nonce), self.place(rest));
        let tag = derived.cipher.seal_in_place_separate_tag(nonce, data, &mut out[start..]);
        out.extend_from_slice(tag.expect("values are shorter than 64 GB").as_ref());
    }

    /// A value for a BYTEA column. `rest` is the place within kind, app and user: session, event, column.
    pub fn seal(&mut self, nonce: [u8; NONCE], rest: &[&[u8]], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(LEAD.len() + self.id.len() + 1 + NONCE + plain.len() + TAG);
        out.extend_from_slice(LEAD.as_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.push(b':');
        self.encrypt(&mut out, nonce, rest, plain);
        out
    }

    /// Appends a JSON string that stands for a JSON text, for a JSONB column.
    pub fn seal_json(&mut self, out: &mut Vec<u8>, nonce: [u8; NONCE], rest: &[&[u8]], plain: &[u8]) {
        let mut bytes = Vec::new();
        self.encrypt(&mut bytes, nonce, rest, plain);
        out.reserve(LEAD.len() + self.id.len() + 3 + STANDARD.encoded_length(bytes.len()));
        out.push(b'"');
        out.extend_from_slice(LEAD.as_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.push(b':');
        STANDARD.encode_append(&bytes, out);
        out.push(b'"');
    }

    /// Appends what was sealed.
    pub fn open(&mut self, out: &mut Vec<u8>, envelope: &Envelope<'_>, rest: &[&[u8]]) -> Result<()> {
        if self.id != envelope.id {
            return Err(SealError::UnknownKey(envelope.id.to_owned()));
        }
        let start = out.len();
        if envelope.base64 {
            STANDARD.decode_append(envelope.body, out).map_err(|_| SealError::Malformed)?;
        } else {
            out.extend_from_slice(envelope.body);
        }
        let nonce = out[start..].get(..NONCE).and_then(|nonce| nonce.try_into().ok());
        let nonce = Nonce::assume_unique_for_key(nonce.ok_or(SealError::Malformed)?);
        let derived = Arc::clone(&self.derived);
        let data = self.place(rest);
        let opened = derived.cipher.open_within(nonce, data, &mut out[start..], NONCE..);
        let length = opened.map_err(|_| SealError::Refused(envelope.id.to_owned()))?.len();
        out.truncate(start + length);
        Ok(())
    }
}

/// Random nonces, one system call for all of them.
pub fn nonces<const N: usize>() -> Result<[[u8; NONCE]; N]> {
    let mut nonces = [[0; NONCE]; N];
    SystemRandom::new().fill(nonces.as_flattened_mut()).map_err(|_| SealError::NoRandom)?;
    Ok(nonces)
}

/// Whether a text can be a key's id.
pub fn is_id(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// An envelope as it was found: its key's id and what stands behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'b> {
    /// The id of the key that opens it.
    pub id: &'b str,
    body: &'b [u8],
    base64: bool,
}

impl<'b> Envelope<'b> {
    /// Reads an envelope of a BYTEA column; `None` where the value does not begin as one.
    pub fn bytea(value: &'b [u8]) -> Option<Result<Self>> {
        Some(Self::read(value.strip_prefix(LEAD.as_bytes())?, false))
    }

    /// Reads an envelope of a JSON text; `None` where it is another value.
    pub fn json(text: &'b [u8]) -> Option<Result<Self>> {
        let inner = text.strip_prefix(b"\"")?.strip_prefix(LEAD.as_bytes())?;
        Some(inner.strip_suffix(b"\"").ok_or(SealError::Malformed).and_then(|inner| Self::read(inner, true)))
    }

    fn read(rest: &'b [u8], base64: bool) -> Result<Self> {
        let head = &rest[..rest.len().min(LONGEST_ID + 1)];
        let colon = memchr::memchr(b':', head).ok_or(SealError::Malformed)?;
        let id =
            std::str::from_utf8(&rest[..colon]).ok().filter(|id| is_id(id)).ok_or(SealError::Malformed)?;
        Ok(Self { id, body: &rest[colon + 1..], base64 })
    }
}

/// Whether sealed values may stand in a document. Fast.
pub fn may_hold_sealed(document: &[u8]) -> bool {
    memchr::memmem::find(document, LEAD.as_bytes()).is_some()
}

/// Whether a text is like a pattern, in which `*` stands for any characters.
pub fn is_like(text: &str, pattern: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: [&[u8]; 3] = [b"session", b"event", b"content"];

    fn key() -> Key {
        Key::new("2026-01", &[7; 32]).expect("32 bytes")
    }

    fn cipher() -> Cipher {
        key().cipher("event", "app", "user")
    }

    fn opened(
        cipher: &mut Cipher,
        envelope: Option<Result<Envelope<'_>>>,
        rest: &[&[u8]],
    ) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        cipher.open(&mut plain, &envelope.unwrap_or(Err(SealError::Malformed))?, rest)?;
        Ok(plain)
    }

    #[test]
    fn both_forms_open_to_what_was_sealed() {
        for length in [0, 1, 15, 16, 17, 1000] {
            let plain = vec![b'x'; length];
            let bytes = cipher().seal([1; NONCE], &PLACE, &plain);
            assert_eq!(opened(&mut cipher(), Envelope::bytea(&bytes), &PLACE), Ok(plain.clone()));
            let mut text = Vec::new();
            cipher().seal_json(&mut text, [1; NONCE], &PLACE, &plain);
            assert!(may_hold_sealed(&text));
            assert_eq!(opened(&mut cipher(), Envelope::json(&text), &PLACE), Ok(plain));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let whole = cipher().seal([1; NONCE], &PLACE, b"secret");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(opened(&mut cipher(), Envelope::bytea(&changed), &PLACE).is_err(), "byte {at}");
        }
        for length in 0..whole.len() {
            let cut = Envelope::bytea(&whole[..length]);
            assert!(opened(&mut cipher(), cut, &PLACE).is_err(), "cut at {length}");
        }
    }

    #[test]
    fn a_value_opens_in_its_own_place_only() {
        let text = cipher().seal([1; NONCE], &PLACE, b"{}");
        let refused = Err(SealError::Refused("2026-01".into()));
        for (kind, app, user) in [
            ("state", "app", "user"),
            ("event", "app2", "user"),
            ("event", "app", "user2"),
            ("event", "ap", "puser"),
        ] {
            let found = opened(&mut key().cipher(kind, app, user), Envelope::bytea(&text), &PLACE);
            assert_eq!(found, refused, "{kind} {app} {user}");
        }
        let elsewhere: [&[&[u8]]; 3] = [
            &[b"session", b"event", b"actions"],
            &[b"session", b"even", b"tcontent"],
            &[b"session", b"event"],
        ];
        for rest in elsewhere {
            assert_eq!(opened(&mut cipher(), Envelope::bytea(&text), rest), refused, "{rest:?}");
        }
        let other = Key::new("2026-01", &[8; 32]).expect("32 bytes");
        let found = opened(&mut other.cipher("event", "app", "user"), Envelope::bytea(&text), &PLACE);
        assert_eq!(found, refused);
    }

    #[test]
    fn patterns() {
        for (text, pattern, like) in [
            ("app:key", "*", true),
            ("app:key", "app:*", true),
            ("key", "app:*", false),
            ("key", "key", true),
            ("keys", "key", false),
            ("user:card_number", "user:*_number", true),
            ("aXbXc", "a*b*c", true),
            ("aXc", "a*b*c", false),
            ("ab", "ab*b", false),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
        }
    }

    #[test]
    fn ids() {
        assert!(is_id("2026.a_b-C"));
        for id in ["", "a:b", "a b", "é", &"x".repeat(65)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn words_differ_by_user() {
        let key = key();
        assert_eq!(key.hash_word("app", "user", "tea"), key.hash_word("app", "user", "tea"));
        assert_ne!(key.hash_word("app", "user", "tea"), key.hash_word("app", "user2", "tea"));
        assert_ne!(key.hash_word("app", "user", "tea"), key.hash_word("ap", "puser", "tea"));
        assert_eq!(key.hash_word("app", "user", "tea").len(), 32);
    }
}
