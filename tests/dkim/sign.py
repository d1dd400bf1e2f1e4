#!/usr/bin/env python3
"""Made the signed messages beside this file, and `keys`, the records to verify them by; the private keys were
thrown away. Needs dkimpy and pynacl, which share nothing with hoptrail. Run again, it makes all of them anew."""

import base64
import pathlib

import dkim
import nacl.signing
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

MESSAGE = b"""\
From: Alice <alice@signed.test>
To: bob@dest.test
Subject: signed
  over two lines
Message-ID: <signed@signed.test>
Date: Mon, 23 Nov 2026 12:00:00 +0000

.leading dot
..two of them
blanks  within	and at the end  \n\


the end

""".replace(b"\n", b"\r\n")

DOMAIN = b"signed.test"
HEADERS = ["from", "to", "subject", "message-id", "date", "from"]
RELAXED = (b"relaxed", b"relaxed")
SIMPLE = (b"simple", b"simple")
HERE = pathlib.Path(__file__).parent


class Expiring(dkim.DKIM):
    """Signs for one second."""

    def gen_header(self, fields, *more):
        made = int(dict(fields)[b"t"])
        at = [name for name, _ in fields].index(b"t") + 1
        fields.insert(at, (b"x", str(made + 1).encode()))
        return super().gen_header(fields, *more)


def rsa_key(bits):
    key = rsa.generate_private_key(65537, bits)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.TraditionalOpenSSL, form.NoEncryption())
    public = key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)
    return private, f"k=rsa; p={base64.b64encode(public).decode()}"


def ed25519_key():
    key = nacl.signing.SigningKey.generate()
    public = base64.b64encode(bytes(key.verify_key)).decode()
    return base64.b64encode(bytes(key)), f"k=ed25519; p={public}"


def write(name, signer, key, algorithm, canonical, **more):
    selector = {"rsa-sha1": "rsa", "rsa-sha256": "rsa", "ed25519-sha256": "ed25519"}[algorithm]
    selector = more.pop("selector", selector)
    field = signer(MESSAGE).sign(
        selector.encode(), DOMAIN, key, algorithm.encode(), canonicalize=canonical, include_headers=HEADERS, **more
    )
    (HERE / f"{name}.eml").write_bytes((field + MESSAGE).replace(b"\r\n", b"\n"))


rsa_private, rsa_public = rsa_key(2048)
ed_private, ed_public = ed25519_key()
Usual = dkim.DKIM
write("rsa", Usual, rsa_private, "rsa-sha256", RELAXED)
write("simple", Usual, rsa_private, "rsa-sha256", SIMPLE)
write("strict", Usual, rsa_private, "rsa-sha256", RELAXED, selector="strict")
write("length", Usual, rsa_private, "rsa-sha256", RELAXED, length=True)
write("sha1", lambda m: Usual(m, signature_algorithm=b"rsa-sha1"), rsa_private, "rsa-sha1", RELAXED)
write("expired", Expiring, rsa_private, "rsa-sha256", RELAXED)
write("ed25519", Usual, ed_private, "ed25519-sha256", RELAXED)
(HERE / "keys").write_text(
    f"rsa._domainkey.signed.test v=DKIM1; {rsa_public}\n"
    f"strict._domainkey.signed.test v=DKIM1; t=s; {rsa_public}\n"
    f"ed25519._domainkey.signed.test v=DKIM1; {ed_public}\n"
)
