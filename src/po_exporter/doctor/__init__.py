"""Is this database ready, and what would help? The watching of it, and the mending."""

from po_exporter.doctor.examine import examine
from po_exporter.doctor.fixes import examine_fixes
from po_exporter.doctor.remark import Level, Remark

__all__ = ["Level", "Remark", "examine", "examine_fixes"]
