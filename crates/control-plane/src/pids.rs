//! Which side we are in a process, and the two names of the process.

use std::fmt;

use policy::refusal::Refusal;

use crate::ids::{ConsumerPid, ProviderPid};

policy::refusal_codes! {
    PID_MISMATCH = "message/pid-mismatch", Input,
        "the process ids of this message are not those of the process",
        "此訊息的程序識別碼與該程序不符", "此消息的进程标识符与该进程不符",
        clause "DSP 2025-1, 1.1", next "send both process ids exactly as they were exchanged";
}

/// A side of a negotiation or a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Asks for the dataset; the agreement's assignee.
    Consumer,
    /// Offers the dataset; the agreement's assigner.
    Provider,
}

impl Role {
    /// The other side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Consumer => Self::Provider,
            Self::Provider => Self::Consumer,
        }
    }

    /// `consumer` or `provider`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provider => "provider",
        }
    }

    /// Reads what [`Role::as_str`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Consumer, Self::Provider].into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// The names of one process as one side knows them: its own always, the peer's once it was told.
///
/// The peer's name comes with its acknowledgement or with its first message, whichever arrives first: a peer may
/// answer before its acknowledgement has reached us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pids {
    /// We are the consumer.
    Consumer {
        /// The name we gave.
        ours: ConsumerPid,
        /// The name the provider gave, once known.
        theirs: Option<ProviderPid>,
    },
    /// We are the provider.
    Provider {
        /// The name we gave.
        ours: ProviderPid,
        /// The name the consumer gave, once known.
        theirs: Option<ConsumerPid>,
    },
}

impl Pids {
    /// Our side.
    pub const fn role(&self) -> Role {
        match self {
            Self::Consumer { .. } => Role::Consumer,
            Self::Provider { .. } => Role::Provider,
        }
    }

    /// Our own name of the process: the key under which we store it.
    pub fn ours(&self) -> &str {
        match self {
            Self::Consumer { ours, .. } => ours.as_str(),
            Self::Provider { ours, .. } => ours.as_str(),
        }
    }

    /// The peer's name of the process, once known.
    pub fn theirs(&self) -> Option<&str> {
        match self {
            Self::Consumer { theirs, .. } => theirs.as_ref().map(ProviderPid::as_str),
            Self::Provider { theirs, .. } => theirs.as_ref().map(ConsumerPid::as_str),
        }
    }

    /// The consumer's name, once known.
    pub fn consumer(&self) -> Option<&ConsumerPid> {
        match self {
            Self::Consumer { ours, .. } => Some(ours),
            Self::Provider { theirs, .. } => theirs.as_ref(),
        }
    }

    /// The provider's name, once known.
    pub fn provider(&self) -> Option<&ProviderPid> {
        match self {
            Self::Consumer { theirs, .. } => theirs.as_ref(),
            Self::Provider { ours, .. } => Some(ours),
        }
    }

    /// Both names, once both are known.
    pub fn both(&self) -> Option<(&ProviderPid, &ConsumerPid)> {
        Some((self.provider()?, self.consumer()?))
    }

    /// Compares the names that a message carries with ours, and learns the peer's if it was not known yet.
    ///
    /// # Errors
    /// [`PID_MISMATCH`] if ours is not among them, or the peer's is another than before.
    pub fn learn(
        &self,
        provider: Option<&ProviderPid>,
        consumer: Option<&ConsumerPid>,
    ) -> Result<Self, Refusal> {
        match self {
            Self::Consumer { ours, theirs } => {
                same(Some(ours), consumer)?;
                Ok(Self::Consumer { ours: ours.clone(), theirs: Some(agreeing(theirs.as_ref(), provider)?) })
            }
            Self::Provider { ours, theirs } => {
                same(Some(ours), provider)?;
                Ok(Self::Provider { ours: ours.clone(), theirs: Some(agreeing(theirs.as_ref(), consumer)?) })
            }
        }
    }
}

fn same<T: PartialEq + fmt::Display>(known: Option<&T>, told: Option<&T>) -> Result<(), Refusal> {
    if known.is_some() && known == told {
        return Ok(());
    }
    Err(mismatch(known, told))
}

fn agreeing<T: PartialEq + Clone + fmt::Display>(known: Option<&T>, told: Option<&T>) -> Result<T, Refusal> {
    match (known, told) {
        (None, Some(told)) => Ok(told.clone()),
        (Some(known), Some(told)) if known == told => Ok(known.clone()),
        (known, told) => Err(mismatch(known, told)),
    }
}

fn mismatch<T: fmt::Display>(known: Option<&T>, told: Option<&T>) -> Refusal {
    let shown = |pid: Option<&T>| pid.map_or_else(|| "none".to_owned(), |pid| format!("`{pid}`"));
    Refusal::new(&PID_MISMATCH, format!("ours {}, message {}", shown(known), shown(told)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learning() {
        let (p, q) = (ProviderPid::parse("p").unwrap(), ProviderPid::parse("q").unwrap());
        let (c, d) = (ConsumerPid::parse("c").unwrap(), ConsumerPid::parse("d").unwrap());
        let fresh = Pids::Consumer { ours: c.clone(), theirs: None };
        let known = fresh.learn(Some(&p), Some(&c)).unwrap();
        assert_eq!(known.both(), Some((&p, &c)));
        assert_eq!(known.learn(Some(&p), Some(&c)).unwrap(), known);
        for (provider, consumer) in
            [(Some(&q), Some(&c)), (Some(&p), Some(&d)), (None, Some(&c)), (Some(&p), None)]
        {
            assert_eq!(known.learn(provider, consumer).unwrap_err().code, &PID_MISMATCH);
        }
    }
}
