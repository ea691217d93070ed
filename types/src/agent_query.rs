//! What may be asked of a guest agent.

/// A command of QEMU's guest agent that only reads and has no arguments (QEMU guest agent reference).
///
/// Those that look at every disk or every mounted file system are not carried: on storage that hangs they hold the agent
/// itself, which then is told as silent because it was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AgentQuery {
    /// The agent's version and commands.
    Info,
    /// Name, version and kernel of the operating system.
    OsInfo,
    /// The host name.
    HostName,
    /// The clock of the guest.
    Time,
    /// Its time zone.
    TimeZone,
    /// Who is logged in.
    Users,
    /// Its network interfaces, with their addresses.
    NetworkInterfaces,
    /// Whether its file systems are frozen.
    FsFreezeStatus,
}

impl AgentQuery {
    /// All that are carried.
    pub const ALL: [Self; 8] = [
        Self::Info,
        Self::OsInfo,
        Self::HostName,
        Self::Time,
        Self::TimeZone,
        Self::Users,
        Self::NetworkInterfaces,
        Self::FsFreezeStatus,
    ];

    /// Returns the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "guest-info",
            Self::OsInfo => "guest-get-osinfo",
            Self::HostName => "guest-get-host-name",
            Self::Time => "guest-get-time",
            Self::TimeZone => "guest-get-timezone",
            Self::Users => "guest-get-users",
            Self::NetworkInterfaces => "guest-network-get-interfaces",
            Self::FsFreezeStatus => "guest-fsfreeze-status",
        }
    }

    /// Returns the query of this command, if it is carried.
    pub fn of(command: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|query| query.as_str() == command)
    }
}

/// One question to a guest agent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AgentQuestion {
    /// A sign of life: `guest-ping`.
    Ping,
    /// What a command that only reads returns.
    Query(AgentQuery),
}

impl AgentQuestion {
    /// Returns the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ping => "guest-ping",
            Self::Query(query) => query.as_str(),
        }
    }
}

impl From<AgentQuery> for AgentQuestion {
    fn from(query: AgentQuery) -> Self {
        Self::Query(query)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_carried_by_its_own_name_alone() {
        for query in AgentQuery::ALL {
            assert_eq!(AgentQuery::of(query.as_str()), Some(query));
        }
        for command in ["guest-exec", "guest-shutdown", "guest-file-open", "guest-get-fsinfo", "GUEST-INFO", ""] {
            assert_eq!(AgentQuery::of(command), None, "{command}");
        }
    }
}
