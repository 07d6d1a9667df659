//! Names that only the data plane uses: a held object, a use session.

use std::fmt;

use control_plane::ids::{MAX_ID_BYTES, printable};
use policy::refusal::Refusal;

policy::refusal_codes! {
    MALFORMED_NAME = "use/malformed-id", Input,
        "an object or session identifier is 1 to 255 visible ASCII characters",
        "物件或使用會話的識別碼須為 1 至 255 個可見 ASCII 字元", "对象或使用会话的标识符须为 1 至 255 个可见 ASCII 字符",
        clause "security model: the promise, sealed", next "take the identifier from the list of holdings";
}

macro_rules! names {
    ($( $(#[$doc:meta])* $name:ident; )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Accepts 1 to 255 visible ASCII characters, as they stand; else `use/malformed-id`.
            pub fn parse(text: &str) -> Result<Self, Refusal> {
                if text.is_empty() || text.len() > MAX_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(Refusal::new(&MALFORMED_NAME, format!("{} `{}`", stringify!($name), printable(text))));
                }
                Ok(Self(text.to_owned()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.write_str(&self.0) }
        }
    )* };
}

names! {
    /// One pulled object among our holdings, unique within its agreement.
    ObjectId;
    /// One use session, unique in this connector.
    SessionId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_visible_ascii() {
        assert_eq!(ObjectId::parse("urn:uuid:1").unwrap().as_str(), "urn:uuid:1");
        for bad in ["", "a b", "數據", &"x".repeat(256)] {
            assert_eq!(SessionId::parse(bad).unwrap_err().code, &MALFORMED_NAME);
        }
    }
}
