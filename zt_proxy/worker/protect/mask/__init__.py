"""Masks what a reader may not see in answers of JSON (DESIGN §5): the body is held, changed in place, and sent anew.

masks_for(facts, obligations) ─► relay ─► answers.consider ─► hold.Held ─► document.Editor ─► answers.masked
                                   │      (type, coding)      (bounded)    (bytes → bytes)    (head, length)
                                   └─► what cannot be looked into is refused: ANSWER_NOT_INSPECTABLE
"""

from zt_proxy.worker.protect.mask.masking import PURPOSE, Mask, Masking
from zt_proxy.worker.protect.mask.relay import MaskRelay, NotInspectable, SparedRelay

__all__ = ["PURPOSE", "Mask", "MaskRelay", "Masking", "NotInspectable", "SparedRelay"]
