//! The gRPC wire format: generated messages and services, and the only conversion to and from domain values.
//!
//! `src/gen` is written by `cargo xtask codegen` from `proto/`; nobody needs `protoc`.

pub mod fields;
pub mod negotiation;
pub mod status;
pub mod transfer;

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, clippy::indexing_slicing, clippy::unwrap_used)]
        pub mod $name {
            include!(concat!("gen/", $file));
        }
    };
}

package! {
    /// Local administration.
    admin, "fairlead.admin.v1.rs"
}
package! {
    /// Enrolment, renewal and lists of a data space's authority.
    authority, "fairlead.authority.v1.rs"
}
package! {
    /// Replication of the shared catalogue.
    catalogue, "fairlead.catalogue.v1.rs"
}
package! {
    /// The data stream.
    data, "fairlead.data.v1.rs"
}
package! {
    /// The Dataspace Protocol's messages and services.
    dsp, "fairlead.dsp.v1.rs"
}
package! {
    /// The exchange of identities.
    identity, "fairlead.identity.v1.rs"
}
package! {
    /// Signed notices.
    notice, "fairlead.notice.v1.rs"
}
package! {
    /// Key leases.
    lease, "fairlead.r#use.v1.rs"
}
