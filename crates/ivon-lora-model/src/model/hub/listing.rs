//! The hub's response about a revision: its commit and its files.

use serde::Deserialize;

use super::name::{is_part, is_path};

/// The maximum number of files of a repository; the largest published ones have some ten thousand.
const MOST_FILES: usize = 100_000;
/// The maximum length of a file name in bytes.
const LONGEST_NAME: usize = 1024;

/// A commit of a repository, and its files.
#[derive(Clone, Debug, PartialEq)]
pub struct HubListing {
    /// The commit's hash, the name of a folder in the cache.
    pub commit: String,
    /// The files whose names can be paths in the cache, in the order of the response.
    pub files: Vec<HubFile>,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq)]
pub struct HubFile {
    /// Its path in the repository.
    pub name: String,
    /// Its size in bytes, if the server states it.
    pub size: Option<u64>,
    /// The SHA-256 of its contents in lower-case hexadecimal, if the server states it (as it does
    /// for Git LFS files).
    pub sha256: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
}

impl HubListing {
    /// Parses the response to `/api/models/org/name/revision/main?blobs=true`.
    ///
    /// # Errors
    /// A message about what is wrong with it.
    pub fn parse(answer: &[u8]) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(answer).map_err(|error| {
            // serde quotes what it found, which may be any text from the server.
            format!(
                "its answer about the model is not what a hub says ({})",
                one_line(&error.to_string())
            )
        })?;
        if !is_part(&answer.sha) {
            return Err(format!(
                "it gave the commit `{}`, expected a hash",
                one_line(&answer.sha)
            ));
        }
        if answer.siblings.len() > MOST_FILES {
            return Err(format!(
                "it gave {} files, expected at most {MOST_FILES}",
                answer.siblings.len()
            ));
        }
        // No file that a model needs has a name that cannot be a path here.
        let usable =
            |file: &Sibling| file.rfilename.len() <= LONGEST_NAME && is_path(&file.rfilename);
        let files = answer.siblings.into_iter().filter(usable);
        Ok(Self {
            commit: answer.sha,
            files: files.map(HubFile::from).collect(),
        })
    }

    /// A file by its path.
    pub fn file(&self, name: &str) -> Option<&HubFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl From<Sibling> for HubFile {
    fn from(sibling: Sibling) -> Self {
        let sha256 = sibling.lfs.and_then(|lfs| lfs.sha256);
        Self {
            name: sibling.rfilename,
            size: sibling.size,
            sha256: sha256
                .map(|hash| hash.to_lowercase())
                .filter(|hash| is_sha256(hash)),
        }
    }
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The start of an untrusted text, on one line.
pub(super) fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let short: String = text.chars().take(120).map(clean).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn commit_files_sizes_and_hashes_are_read_and_the_rest_is_passed_over() {
        let hash = "AB".repeat(32);
        let answer = json!({ "sha": COMMIT, "id": "o/n", "private": false, "siblings": [
            { "rfilename": "config.json", "size": 7, "blobId": "x" },
            { "rfilename": "q/model.safetensors", "size": 9, "lfs": { "sha256": hash, "size": 9, "pointerSize": 134 } },
            { "rfilename": "bare" },
            { "rfilename": "odd", "lfs": { "sha256": "short" } },
        ]});
        let listing = HubListing::parse(answer.to_string().as_bytes()).unwrap();
        assert_eq!(listing.commit, COMMIT);
        let seen: Vec<_> = listing
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.size, file.sha256.is_some()))
            .collect();
        let expected = [
            ("config.json", Some(7), false),
            ("q/model.safetensors", Some(9), true),
            ("bare", None, false),
            ("odd", None, false),
        ];
        assert_eq!(seen, expected);
        assert_eq!(
            listing.file("q/model.safetensors").unwrap().sha256,
            Some("ab".repeat(32))
        );
        assert_eq!(listing.file("other"), None);
    }

    #[test]
    fn a_name_that_could_lead_out_of_the_cache_is_not_taken() {
        let names = [
            "../x",
            "/etc/passwd",
            "a/../../x",
            "",
            ".git/config",
            "a b",
            "a\\b",
            "x\u{0}y",
            &"a/".repeat(600),
        ];
        let siblings: Vec<_> = names
            .iter()
            .map(|name| json!({ "rfilename": name }))
            .collect();
        let answer = json!({ "sha": COMMIT, "siblings": siblings }).to_string();
        assert_eq!(HubListing::parse(answer.as_bytes()).unwrap().files, []);
    }

    #[test]
    fn what_is_no_answer_of_a_hub_is_a_sentence() {
        for (answer, reason) in [
            (
                json!({ "sha": "../../x" }),
                "gave the commit `../../x`, expected a hash",
            ),
            (json!({ "siblings": [] }), "missing field `sha`"),
            (
                json!({ "sha": COMMIT, "siblings": 7 }),
                "is not what a hub says",
            ),
            (
                json!({ "sha": COMMIT, "siblings": [{ "rfilename": "a", "size": -1 }] }),
                "is not what a hub says",
            ),
        ] {
            let error = HubListing::parse(answer.to_string().as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(
            HubListing::parse(b"<html>\n<body>Sign in")
                .unwrap_err()
                .contains("is not what a hub says")
        );
        let many = vec![json!({ "rfilename": "a" }); MOST_FILES + 1];
        let error = HubListing::parse(
            json!({ "sha": COMMIT, "siblings": many })
                .to_string()
                .as_bytes(),
        )
        .unwrap_err();
        assert!(error.contains("gave 100001 files"), "{error}");
        assert_eq!(one_line(&"é\n".repeat(200)).chars().count(), 121);
    }
}
