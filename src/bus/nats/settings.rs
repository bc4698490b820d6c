//! Where the server is, who we are to it, and what we make there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};

use crate::bus::nats::connection::{PATIENCE, Trouble};

const PING: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `nats://host:4222` or `tls://host:4222`; more of one cluster with commas between them.
    pub url: String,
    pub login: Login,
    pub tls: Tls,
    /// Make the stream and the buckets where they are not there.
    pub manage_streams: bool,
    /// Copies of the stream and the buckets that are made.
    pub replicas: usize,
    /// Speak to a server elsewhere even if it asks nobody who he is.
    pub allow_anonymous: bool,
    /// A right that we lack is asked for again after so long, by a new connection.
    pub again: Duration,
}

/// What suits a factory for `Settings::again`.
pub const AGAIN: Duration = Duration::from_secs(60);

/// How we show who we are. Secrets stay in their files, which are read anew for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Anonymous,
    Password {
        user: String,
        file: PathBuf,
    },
    Token(PathBuf),
    /// The file holds the seed of an nkey (`SU…`).
    Nkey(PathBuf),
    /// A `.creds` file: JWT and nkey.
    Credentials(PathBuf),
}

/// All of it in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The server's authority; with it TLS is required.
    pub ca: Option<PathBuf>,
    pub client: Option<ClientCertificate>,
    /// TLS before anything else is said; needs a server from 2.10 on that is set so.
    pub first: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Settings {
    /// A server that needs no more than its address.
    #[cfg(test)]
    pub fn plain(url: String) -> Self {
        Self {
            url,
            login: Login::Anonymous,
            tls: Tls::default(),
            manage_streams: true,
            replicas: 1,
            allow_anonymous: false,
            again: AGAIN,
        }
    }

    /// Finds in the words alone what no waiting will mend.
    pub fn sound(&self) -> Result<(), SettingsError> {
        let url = |reason: &str| SettingsError::Url { url: self.url.clone(), reason: reason.to_owned() };
        if self.url.contains('@') {
            // The text is not repeated: it may hold a password.
            return Err(SettingsError::Secret);
        }
        let mut is_local = true;
        for server in self.url.split(',') {
            let address: ServerAddr = server.parse().map_err(|error: io::Error| url(&error.to_string()))?;
            if !["nats", "tls"].contains(&address.scheme()) {
                return Err(url("not nats:// or tls://"));
            }
            if address.host().is_empty() {
                return Err(url("it names no host"));
            }
            is_local &= is_loopback(address.host());
        }
        if !is_local && self.login == Login::Anonymous && self.tls.client.is_none() && !self.allow_anonymous {
            return Err(SettingsError::Anonymous { url: self.url.clone() });
        }
        Ok(())
    }

    /// The same, and whether the files are there.
    pub(in crate::bus) fn check(&self) -> Result<(), SettingsError> {
        self.sound()?;
        let Tls { ca, client, first: _ } = &self.tls;
        let login = match &self.login {
            Login::Anonymous => None,
            Login::Password { file, .. } | Login::Token(file) | Login::Nkey(file) | Login::Credentials(file) => {
                Some(file)
            }
        };
        let certificate = client.iter().flat_map(|client| [&client.cert, &client.key]);
        for path in ca.iter().chain(login).chain(certificate) {
            std::fs::read(path).map_err(|source| SettingsError::Read { path: path.clone(), source })?;
        }
        Ok(())
    }

    pub fn servers(&self) -> Vec<&str> {
        self.url.split(',').collect()
    }

    /// A server elsewhere that asks nobody who he is lets everybody on that network command the station.
    pub fn admits(&self, auth_required: bool) -> Result<(), String> {
        let is_local = self
            .servers()
            .iter()
            .all(|server| server.parse().is_ok_and(|address: ServerAddr| is_loopback(address.host())));
        if is_local || auth_required || self.allow_anonymous {
            return Ok(());
        }
        Err(format!(
            "the NATS server at {} asks nobody for a login, so anyone on that network could command this station; give \
             its users a login, or set bus.nats.allow_anonymous: true",
            self.url
        ))
    }

    /// Options of one connection, with what the files hold now.
    pub async fn options(&self, name: &str, station: &str) -> Result<ConnectOptions, Trouble> {
        let options = ConnectOptions::new()
            .name(name)
            .custom_inbox_prefix(format!("_INBOX.{station}"))
            .ping_interval(PING)
            .connection_timeout(PATIENCE)
            .ignore_discovered_servers()
            // Each server once; then we decide when to try again.
            .max_reconnects(self.servers().len());
        let mut options = match &self.login {
            Login::Anonymous => options,
            Login::Password { user, file } => options.user_and_password(user.clone(), secret(file).await?),
            Login::Token(file) => options.token(secret(file).await?),
            Login::Nkey(file) => options.nkey(secret(file).await?),
            Login::Credentials(file) => {
                options.credentials_file(file).await.map_err(|error| unreadable(file, &error))?
            }
        };
        if let Some(ca) = &self.tls.ca {
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        if let Some(client) = &self.tls.client {
            options = options.add_client_certificate(client.cert.clone(), client.key.clone()).require_tls(true);
        }
        Ok(if self.tls.first { options.tls_first() } else { options })
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The first line with something in it.
async fn secret(file: &Path) -> Result<String, Trouble> {
    let text = tokio::fs::read_to_string(file).await.map_err(|error| unreadable(file, &error))?;
    Ok(text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned())
}

fn unreadable(file: &Path, error: &io::Error) -> Trouble {
    Trouble::Refused(format!("cannot read {}: {error}", file.display()))
}

/// The configuration of NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("url {url:?} is not a NATS address: {reason}")]
    Url { url: String, reason: String },
    #[error("url: a login does not belong into it; use username and password_file, token_file, nkey or creds")]
    Secret,
    #[error(
        "{url} is on a network, and no login is given: a NATS server that takes anyone lets anyone command \
         this station; give creds, nkey, username and password_file, token_file, or cert and key, or set \
         allow_anonymous: true"
    )]
    Anonymous { url: String },
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_a_network_needs_a_login_or_a_word_of_the_operator() {
        for url in ["nats://10.0.0.7:4222", "nats://nats.acme.example", "nats://127.0.0.1:4222,nats://10.0.0.7:4222"] {
            let open = Settings::plain(url.to_owned());
            assert!(matches!(open.check(), Err(SettingsError::Anonymous { .. })), "{url}");
            assert!(open.admits(false).unwrap_err().contains("allow_anonymous"), "{url}");
            assert_eq!(open.admits(true), Ok(()));
            let told = Settings { allow_anonymous: true, ..open };
            assert!(told.check().is_ok() && told.admits(false).is_ok());
        }
        for url in ["nats://127.0.0.1:4222", "nats://localhost", "nats://[::1]:4222"] {
            let open = Settings::plain(url.to_owned());
            assert!(open.check().is_ok() && open.admits(false).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_wrong_address_is_named_and_a_password_in_it_is_not_repeated() {
        for url in ["http://127.0.0.1", "nats://", "ws://127.0.0.1:80"] {
            assert!(matches!(Settings::plain(url.to_owned()).check(), Err(SettingsError::Url { .. })), "{url}");
        }
        let error = Settings::plain("nats://me:s3cret@127.0.0.1".to_owned()).check().unwrap_err().to_string();
        assert!(error.contains("password_file") && !error.contains("s3cret"), "{error}");
    }
}
