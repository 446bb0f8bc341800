//! The columns and what is cut to fit into them.

use adk_psqlpy::row::{self, COLUMNS, OWN_ARRAYS};

#[test]
fn a_text_is_cut_by_characters() {
    for (text, limit, cut, is_cut) in [
        ("", 3, "", false),
        ("abc", 3, "abc", false),
        ("abcd", 3, "abc", true),
        ("üüü", 3, "üüü", false),
        ("üüüü", 3, "üüü", true),
        ("😀😀", 1, "😀", true),
        ("a\u{308}b", 1, "a", true),
        ("abc", 0, "", true),
    ] {
        assert_eq!(row::cut(text, limit), (cut, is_cut), "{text}");
    }
}

#[test]
fn a_cut_copy_is_no_longer_than_the_column() {
    let text = "aü日😀".repeat(200);
    for limit in 0..801 {
        let (cut, is_cut) = row::cut(&text, limit);
        assert_eq!((cut.chars().count(), is_cut), (limit.min(800), limit < 800));
        assert!(text.starts_with(cut));
    }
}

#[test]
fn every_column_is_found_by_its_name() {
    for (index, column) in COLUMNS.iter().enumerate() {
        assert_eq!(row::index_of(column.name), Some(index));
    }
    assert_eq!(row::index_of("seq"), None);
    const { assert!(OWN_ARRAYS < COLUMNS.len()) };
}

#[test]
fn fields_without_a_column_are_kept_in_extra() {
    assert_eq!(row::column_of_field("content"), row::index_of("content"));
    assert_eq!(row::column_of_field("long_running_tool_ids"), row::index_of("long_running_tool_ids_json"));
    for field in ["output", "extra", "long_running_tool_ids_json", "seq", ""] {
        assert_eq!(row::column_of_field(field), None, "{field}");
    }
}
