//! Bookmarks as text: what parses prints back, in small letters.

use dostore::bookmark::Bookmark;

/// Takes one input.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(bookmark) = text.parse::<Bookmark>() {
        assert_eq!(bookmark.to_string(), text.to_lowercase());
        assert_eq!(bookmark.to_string().parse::<Bookmark>().ok(), Some(bookmark));
    }
}
