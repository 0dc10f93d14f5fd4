//! The file with our token.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hyper::header::HeaderValue;
use overlane_api::access::TOKEN_PREFIX;

use crate::settings::SettingsError;

/// The largest token file, in bytes; a token is far shorter.
const MAX_FILE: u64 = 4096;

/// What our `Authorization` header says, from a token file that nobody else can read.
///
/// # Errors
/// [`SettingsError::Token`] naming the file and what is wrong with it.
pub(crate) fn authorization(path: &Path) -> Result<HeaderValue, SettingsError> {
    let wrong = |problem: String| SettingsError::Token { path: path.to_owned(), problem };
    let unreadable = |error: std::io::Error| wrong(format!("cannot read it: {error}"));
    // Asked of the open file, so that what is read is what was looked at.
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others can get at it (mode {mode:03o}): chmod 600 it")));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(unreadable)?;
    let token = text.trim();
    let is_token = token.starts_with(TOKEN_PREFIX) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = is_token.then(|| HeaderValue::try_from(format!("Bearer {token}")).ok()).flatten();
    let mut value =
        value.ok_or_else(|| wrong(format!("there is no token in it: one begins with {TOKEN_PREFIX}")))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_taken_if_it_is_ours_alone_and_has_a_token_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, mode, wanted) in [
            ("ovl_ci_secret\n", 0o600, Ok("Bearer ovl_ci_secret")),
            ("ovl_ci_secret", 0o400, Ok("Bearer ovl_ci_secret")),
            ("ovl_ci_secret", 0o640, Err("chmod 600")),
            ("ovl_ci_secret", 0o604, Err("chmod 600")),
            ("secret", 0o600, Err("begins with ovl_")),
            ("ovl_a b", 0o600, Err("begins with ovl_")),
            ("", 0o600, Err("begins with ovl_")),
        ] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            match (authorization(&path), wanted) {
                (Ok(value), Ok(wanted)) => assert_eq!(value, wanted),
                (Err(error), Err(said)) => assert!(error.to_string().contains(said), "{error}"),
                (got, wanted) => panic!("{text:?} {mode:o}: {got:?} instead of {wanted:?}"),
            }
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let error = authorization(&directory.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("cannot read"), "{error}");
    }
}
