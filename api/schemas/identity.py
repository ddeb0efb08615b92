"""Bodies of logins."""

from typing import Annotated

from pydantic import ConfigDict, Field

from api.auth.roles import Role
from api.schemas.common import Answer, Body

HostCode = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]


class DriverLogin(Body):
    """The code of `wx.login`, good for one exchange."""

    code: HostCode = Field(examples=["0a1B2c3D4e"])


class PhoneCode(Body):
    """The code of the phone number button."""

    code: HostCode = Field(examples=["p0a1B2c3D4e"])


class StaffLogin(Body):
    """A staff member's login name and password."""

    login: str = Field(min_length=1, max_length=64, examples=["cashier1"])
    password: str = Field(min_length=1, max_length=128, examples=["correct horse battery"])


class RefreshBody(Body):
    """A refresh token; it works once."""

    refresh_token: str = Field(min_length=20, max_length=200, pattern=r"^[A-Za-z0-9_-]+$")


class TokensOut(Answer):
    """Tokens of a login. Send the access token as `Authorization: Bearer ...`."""

    model_config = ConfigDict(from_attributes=True)

    access_token: str
    refresh_token: str
    token_type: str = "Bearer"  # noqa: S105 - the scheme of RFC 6750
    expires_in_s: int = Field(examples=[900])
    role: Role


class PhoneOut(Answer):
    """The stored phone number, masked."""

    phone_masked: str = Field(examples=["138****1234"])
