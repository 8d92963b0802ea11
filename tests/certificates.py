"""Certificates for tests: a CA, and what it signs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Certificates:
    """A certificate authority with a server and a client, and what else a test asks for.

    All is made by the openssl command line.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Path, Path]] = {}
        self.ca, _ = self._authority("ca")
        self.other_ca, _ = self._authority("other-ca")
        self.server, self.server_key = self.issue("server", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self.client, self.client_key = self.issue("client", "extendedKeyUsage=clientAuth")

    def issue(
        self,
        name: str,
        extension: str,
        *,
        authority: str = "ca",
        days: tuple[str, str] | None = None,
        common_name: str | None = None,
    ) -> tuple[Path, Path]:
        """Return certificate and key under a name, made at the first call.

        Args:
            name: Of the files, and its common name where that is not given.
            extension: A line of X.509 extensions.
            authority: Who signs: ``ca``, ``other-ca``; ``self`` for nobody.
            days: From when to when it is valid, as OpenSSL writes times; else for two days.
            common_name: What stands in the subject.
        """
        if name not in self._made:
            cert, key, request, extensions = (
                self._folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext")
            )
            self._openssl(
                *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", f"/CN={common_name or name}", "-keyout", str(key), "-out", str(request)),
            )
            extensions.write_text(f"{extension}\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
            signer, its_key = (name, key) if authority == "self" else (authority, None)
            self._openssl(
                *("ca", "-batch", "-notext", "-config", str(self._register(signer, its_key))),
                *("-selfsign" if authority == "self" else "-rand_serial", "-extfile", str(extensions)),
                *(("-startdate", days[0], "-enddate", days[1]) if days else ("-days", "2")),
                *("-in", str(request), "-out", str(cert)),
            )
            self._made[name] = cert, key
        return self._made[name]

    def revoke(self, name: str) -> Path:
        """Revoke a certificate of ours, and return the list of what is revoked."""
        config, revoked = str(self._register("ca", None)), self._folder / f"{name}.crl"
        self._openssl("ca", "-config", config, "-revoke", str(self._made[name][0]))
        self._openssl("ca", "-config", config, "-gencrl", "-crldays", "2", "-out", str(revoked))
        return revoked

    def _authority(self, name: str) -> tuple[Path, Path]:
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
        )
        return cert, key

    def _register(self, signer: str, key: Path | None) -> Path:
        """Return the configuration of a signer, with a register of what it has signed."""
        config, register = self._folder / f"{signer}.cnf", self._folder / f"{signer}.index"
        register.touch()
        config.write_text(
            "[ca]\ndefault_ca=us\n[us]\ndefault_md=sha256\npolicy=any\nunique_subject=no\nrand_serial=yes\n"
            f"new_certs_dir={self._folder}\ndatabase={register}\n"
            f"certificate={self._folder / signer}.pem\nprivate_key={key or self._folder / f'{signer}.key'}\n"
            "[any]\ncommonName=supplied\n"
        )
        return config

    @staticmethod
    def _openssl(*arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def listener(
        self, *, ask_for_client: bool = False, server: tuple[Path, Path] | None = None, more: str = ""
    ) -> str:
        """Return the lines of a Mosquitto listener with TLS.

        Args:
            ask_for_client: Whether a client must show a certificate of our CA.
            server: Its certificate and key, where they are not the good ones.
            more: Further lines.
        """
        cert, key = server or (self.server, self.server_key)
        lines = f"cafile {self.ca}\ncertfile {cert}\nkeyfile {key}\n{more}\n"
        return lines + ("require_certificate true\n" if ask_for_client else "")
