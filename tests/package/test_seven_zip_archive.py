"""7z archives that an archiver wrote, and what becomes of them when bytes are wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.errors import LimitExceeded, RegraftError, Unsupported
from regraft.package.archive import open_archive
from regraft.package.reader import BytesReader
from regraft.package.seven_zip_archive import SevenZipArchive

CONTENT = {"model.pkl": b"cos\nsystem\n(S'echo harm'\ntR.", "data.bin": bytes(range(64)) * 4, "empty.txt": b""}
HEADER_OF_ITSELF = bytes.fromhex(
    "377abcaf271c0004fea709300000000000000000120000000000000080f3ab3217060001091200070b01000101000c120000"
)
"""The header says: stored, 18 bytes from the beginning of the data on; that is the header."""
WRITTEN = {
    "lzma2": (
        "H+sCUCma9-7~s^A>Hq)$00000761SM00000U3CL}-"
        "~k%|UtIt(o65$rd}ZI?ky)Ry)_yGupIr3FW%(81U3@1bIjl`?ya|aBLG*VYW3QWqFh;^tZnO*r%RN7>KmNG@NETQ|%OqZaP?XWbsMHQ5)sm3"
        "%SA+#OEPlm1k>a}5zyJW?0G<GQT>t=qGY75@)9N<8K){gF|8$|virew9gKG_EW^KE)JRPdKK;L2mUtEetakuOD+;N1i0aW=8D!G2JCPRFTVS"
        "wQF{(J>gFh{gm)!f5}yN0m+edc`12hPmv#EVut&7Bto9z2~;F{)&OE_(?QN~=Xl7~vM?INJaK000*TX8{R-g8&B$0RRCZApsZ+fS&*W"
    ),
    "lzma": (
        "H+sCUCma9-n_3})>;M1&00000761SM00000R!{t605O}&#<F~6-"
        "`|m0pRv|{EeoGq^vGrT72#ccCnPznO>Vpii4j5ccOPS~n}sk&!c%Uv3<k?RKdnFhxd2EOSVqevUVu=P(Zi_J4kXo*kn&fA1ve~y#XFJWzFlp"
        "%|Nd7X0N?<g0DoNo0D&_Ht`F1DXgxr{kkdoN;rZxM)f-y4fxb6jN|;ou`xsL9l7Wa`5pn?zg}{I*fOqip&Z9Lz;eM-"
        "w+``FMNDh+`wUyU!xu6qU+RZxF{}8}aR!?(p8{Rl<A_R;V*&fsC+Kb&|Z6l$Si6Fj}fu{G}6gIG)0bdrDy#N3J7Y1bk34n(H2MYlJ0U;p)7z"
        "}`)000"
    ),
    "x86": (
        "H+sCUCma9-2%w(o@&Et;00000761SM00000I$mfb-"
        "~k%|UtIt(o65$rd}ZI?ky)Ry)_yGupIr3FW%(81U3@1bIjl`?ya|aBLG*VYW3QWqFh;^tZnO*r%RN7>KmNG@NETQ|%OqZaP?XWbsMHQ5)sm3"
        "%SA+#OEPlm1k>a}5zyJW?0Hy$gT>t=qGY75@)9N<8K)aM=9DeBqANIMIk}Bb{EZTtKe{jCd)^S+%ZlK(*J4#sNB^4G8|6b%i;QGhU97HLd>{"
        "gL&nA|b3k`iYpFpoG(SR0Esnm!)Ikx*L}uz9818)ZkfT@dXo=WEI!;Y}sixqK};&V*1g0vX{@TDEHscP9V<000*TX8{R-"
        "ivR};0RRCZApsZ+fTsWe"
    ),
    "delta": (
        "H+sCUCma9-{sIz4z5oCK00000761SM00000<_0*t-~k%|EnNUHg8YfN4uy-"
        "2LfNH8IY~wqQOQ0o8|loguDs&S8Bqr4n+raY07~DD<nF)#0N?<o0D)Zq0D&_Ht`E^nfT*B~X|TEBM<@l+@#_1ZXy}vioeb1mJWqpT$oWfMye"
        "E$tpwc8R9sR(AW=;GsD}6qPu|17p&a6cAsFa^%KnU`WIR_e)+qQ4@5hRZUthKkTv3|x>JOt^E=AyF(HI$h~2#+8{Dct2n2h$?ZZ}r$cS|ObP"
        "000*TH312Li2w%+0RRCZApsZ+fTsWe"
    ),
    "deflate": (
        "H+sCUCma9-n>uh<;s5{u00000761SM00000UqUZ3OU^ImDy}RpNzLWb2v$!`&d68DNG!@#=PC)(V_;-rW?^Mx=iubx=Hcbz7Z4N@77-"
        "N_mync_mXVc{S5Q<^R#8<`*U;3`*3s3|H!w6ZHZe6bx3ILbwz0LdAL{x6-"
        "~gTgdR+hjfinlL57Uq1{XoEw&gIK8pBZdqLAWHZH(g%8edX?T3R)9`WKE_iqF{yVfYmGGv4*|n#5OnoXWlpNas&qQ52pTu`txc@hi8a-"
        "g6^v9%Y%)6G~Gv~+CWob%4xS&pcDS<OYSi%%3CatnIDCp4d!-&BZ(&f000*TU;zn$f&d2#0RRCZApsZ+fS&*W"
    ),
    "bzip2": (
        "H+sCUCma9-Kc)&RPXPb`000007XSbN00000eq^(ALRx4!F+o`-Q(3d+&Hw-ahI@d2|NsC0|NsA(04hS9ATR*9Mkb9k!ZI+Jh9G1a42+D71j8"
        "WXCQO)&OaPfMOn@3Ni~$S*RZyB35NW0+MrsB|8UQ9HLFxk`+ZsW@NjOd;jFd|z6HmYEoTo9)P&x`HNl2ztI*O%Ztn4e62oBS@?>rCNC8NmmE"
        "td-yNT48uzF;tzh_V?Breisv^fa1{XQ{B-dmiV(@<atN0?mW60m4QQ^t*VIiFmt`DZ+$>pDu6!-"
        "~gTge_a3ofinlL57jY0;};~;{<4>P&agw*`rP*{J(X8$$Xt)};#&P1;cQGKk!ghsf?1xP+(ckvZ$RBLru4a}2}3avNEHB|h_2qEaKObYJeEe"
        "(1ywf%Cq!tU^NJujf8&Z_xSF&0>r-Q~H+EivmCdd*Qn187RIo;}SvgE10000N27t%`34n(H2MYlJ0U;p)7z}`)000"
    ),
    "zstd": (
        "H+sCUCma9-qpfB!`Tzg`00000761SM00000XX7L$D77#B09Y*p0K^4jZ*vNBd2@7SZ3-"
        "w;CuL)3Zy;!4a&0FHbW$z=0RjUA1qKHQ2?`4g4Gs?w5fT#=6&4p585$cL9UdPbAtECrB_<~*DJm;0EiNxGF)}kWH8wXmIXXK$Jw87H09<dNL"
        "KNTtq5y<l004nA2d)p)M2USsz>w2t4)SIR(`ESOR2<H{-H;IzL~Rk|F+%AGE1L?r=9S1+ZzJ-S1FEilvR6Y}&5tQXtzGJF-Sju~F`0mZ{j8p"
        "b#B)2MU5@1R(g&-VnQB+W_~?eTl`A!p;JNuCo28^L^C(HGQTU67$2?0z3ePaP9uWWl000*TZUG5^i~t7<0RRCZApsZ+fTI8a"
    ),
    "encrypted": (
        "H+sCUCma9-"
        "eYcB&7y$qP00000761SM00000%WfzMEM`0s$FbNGS@%be%f_f>*gy_Qm`i~GBx$E|rZv?;<yHN7O!Z|Jym0!x;;3q4@E}Gl^Ra|wh|2?412`"
        "azdqpnk!YY7@Y2IB>fD$+KwTq3BOvPi}$!Kwji?h(7yEL5&ad*~1<yXf$Mp@qk-"
        "~he=pj`j}finlL57b_oTr~kLMiA@MhKVqFDmEr8v{o6pfriBNw<QSwiFZ1lLkSLS<viPmuN|K?UP#-"
        "(2=D^;tqH$(4g|A>SxG<iX3$AOy2vcuw1^9;(_uPA`9R)%C<ku+E%l20KT$M`;vs-((U2HbY>-"
        "Ozi06V|9tB5io{}#Xvq5a|&bCpsR%*~q(%b`bE&2`V7as`tAHQdh0ssI27Y1+v34o{o2MYlJ0U;p)7z}{F000"
    ),
}
"""CONTENT as py7zr 1.1 packs it, by method: in base 85."""


def archive(data: bytes) -> SevenZipArchive:
    found = open_archive(BytesReader(data, where="test.7z"))
    assert isinstance(found, SevenZipArchive)
    return found


def written(method: str) -> bytes:
    return base64.b85decode(WRITTEN[method])


@pytest.mark.parametrize("method", [method for method in WRITTEN if method != "encrypted"])
def test_every_file_in_every_method(method: str) -> None:
    found = archive(written(method))
    for member in found.members:
        found.verify(member)
    assert {member.name: found.open(member).read_all() for member in found.members} == CONTENT
    assert found.problems == ()
    assert not any(member.is_directory or member.is_link for member in found.members)


def test_what_is_encrypted_says_so() -> None:
    found = archive(written("encrypted"))
    assert [member.name for member in found.members] == list(CONTENT)
    assert found.members[0].is_encrypted
    with pytest.raises(Unsupported, match="encrypted"):
        found.open(found.members[0])


def test_a_wrong_checksum_is_noted_and_the_content_is_still_read() -> None:
    data = bytearray(written("deflate"))
    data[8] ^= 1
    found = archive(bytes(data))
    assert {problem.kind for problem in found.problems} == {"crc-mismatch"}
    assert found.open(found.members[0]).read_all() == CONTENT["model.pkl"]


def test_bytes_behind_it_are_noted() -> None:
    assert {problem.kind for problem in archive(written("lzma") + b"more").problems} == {"trailing-data"}


def test_a_header_that_claims_to_be_huge_is_not_read() -> None:
    data = bytearray(written("lzma"))
    data[20:28] = (1 << 40).to_bytes(8, "little")
    with pytest.raises(LimitExceeded):
        archive(bytes(data))


def test_a_packed_header_that_expands_to_itself_is_given_up() -> None:
    with pytest.raises(LimitExceeded, match="packed more than 4 times"):
        archive(HEADER_OF_ITSELF)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WRITTEN)), st.data())
def test_any_damage_is_an_error_of_ours(method: str, data: st.DataObject) -> None:
    raw = bytearray(written(method))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(6, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = archive(bytes(raw[: data.draw(st.integers(8, len(raw)))]))
        for member in found.members:
            found.open(member).read_at(0, 1 << 20)
    except RegraftError:
        pass
