/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What ACPI tells by code: the PCI host bridge with its windows and interrupt wiring, the legacy
 * devices, S5. What varies from machine to machine lies in CONF, a few bytes that acpi_tables.c
 * writes beside the tables; keep the two, and machine/internal.h, in step.
 */
DefinitionBlock ("", "DSDT", 2, "BLKHD", "BULKHEAD", 0x00000001)
{
    OperationRegion (CONF, SystemMemory, 0x000E0040, 0x20)
    Field (CONF, DWordAcc, NoLock, Preserve)
    {
        M64B, 64,       // 64-bit window: first address
        M64L, 64,       // its length; 0: none
        COMS, 32,       // bit n: serial port n is there
    }

    // Tells the machine which interrupt controller is in use.
    OperationRegion (IRQM, SystemIO, 0x0610, 0x01)
    Field (IRQM, ByteAcc, NoLock, Preserve)
    {
        IMOD, 8,
    }

    Name (APIC, Zero)
    Method (_PIC, 1, NotSerialized)
    {
        APIC = Arg0
        IMOD = Arg0
    }

    Name (_S5, Package (0x04) { Zero, Zero, Zero, Zero })

    Scope (_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08"))
            Name (_CID, EisaId ("PNP0A03"))
            Name (_UID, Zero)
            Name (_SEG, Zero)
            Name (_BBN, Zero)

            Name (CR32, ResourceTemplate ()
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000, 0x0000, 0x00FF, 0x0000, 0x0100)
                IO (Decode16, 0x0CF8, 0x0CF8, 0x01, 0x08)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0000, 0x0CF7, 0x0000, 0x0CF8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000, 0x0D00, 0xFFFF, 0x0000, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0x00000000, 0xC0000000, 0xFEBFFFFF, 0x00000000, 0x3EC00000)
            })
            Name (CR64, ResourceTemplate ()
            {
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,
                    0x0000000000000000, 0x0000000800000000, 0x0000000FFFFFFFFF,
                    0x0000000000000000, 0x0000000800000000, , , WIN)
            })
            Method (_CRS, 0, Serialized)
            {
                If (M64L == Zero)
                {
                    Return (CR32)
                }
                CreateQWordField (CR64, \_SB.PCI0.WIN._MIN, WMIN)
                CreateQWordField (CR64, \_SB.PCI0.WIN._MAX, WMAX)
                CreateQWordField (CR64, \_SB.PCI0.WIN._LEN, WLEN)
                WMIN = M64B
                WLEN = M64L
                WMAX = M64B + M64L - One
                Return (ConcatenateResTemplate (CR32, CR64))
            }

            // Everything a guest asks for is its own to control.
            Method (_OSC, 4, NotSerialized)
            {
                CreateDWordField (Arg3, Zero, CDW1)
                If (Arg0 != ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766"))
                {
                    CDW1 |= 0x04
                }
                ElseIf (Arg1 != One)
                {
                    CDW1 |= 0x08
                }
                Return (Arg3)
            }

            // Pin p of slot s: GSI 16 + (s + p) % 8, or IRQ 10 + (s + p) % 2 by the PIC.
            Method (_PRT, 0, Serialized)
            {
                Local0 = Package (0x80) {}
                Local1 = Zero
                While (Local1 < 0x80)
                {
                    Local2 = (Local1 >> 2)
                    Local3 = (Local1 & 0x03)
                    If (APIC)
                    {
                        Local4 = 0x10 + ((Local2 + Local3) & 0x07)
                    }
                    Else
                    {
                        Local4 = 0x0A + ((Local2 + Local3) & 0x01)
                    }
                    Local5 = Package (0x04) { Zero, Zero, Zero, Zero }
                    Local5 [Zero] = (Local2 << 0x10) | 0xFFFF
                    Local5 [One] = Local3
                    Local5 [0x03] = Local4
                    Local0 [Local1] = Local5
                    Local1++
                }
                Return (Local0)
            }
        }

        Device (MBRD)           // what is taken: configuration space, ACPI's own ports
        {
            Name (_HID, EisaId ("PNP0C02"))
            Name (_UID, Zero)
            Name (_CRS, ResourceTemplate ()
            {
                Memory32Fixed (ReadWrite, 0xB0000000, 0x10000000)
                IO (Decode16, 0x0600, 0x0600, 0x01, 0x30)
            })
        }

        Device (RTC0)
        {
            Name (_HID, EisaId ("PNP0B00"))
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x0070, 0x0070, 0x01, 0x02)
                IRQNoFlags () { 8 }
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x01)
            Method (_STA, 0, NotSerialized)
            {
                If (COMS & 0x01)
                {
                    Return (0x0F)
                }
                Return (Zero)
            }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03F8, 0x03F8, 0x01, 0x08)
                IRQNoFlags () { 4 }
            })
        }
        Device (COM2)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x02)
            Method (_STA, 0, NotSerialized)
            {
                If (COMS & 0x02)
                {
                    Return (0x0F)
                }
                Return (Zero)
            }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02F8, 0x02F8, 0x01, 0x08)
                IRQNoFlags () { 3 }
            })
        }
        Device (COM3)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x03)
            Method (_STA, 0, NotSerialized)
            {
                If (COMS & 0x04)
                {
                    Return (0x0F)
                }
                Return (Zero)
            }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x03E8, 0x03E8, 0x01, 0x08)
                IRQNoFlags () { 4 }
            })
        }
        Device (COM4)
        {
            Name (_HID, EisaId ("PNP0501"))
            Name (_UID, 0x04)
            Method (_STA, 0, NotSerialized)
            {
                If (COMS & 0x08)
                {
                    Return (0x0F)
                }
                Return (Zero)
            }
            Name (_CRS, ResourceTemplate ()
            {
                IO (Decode16, 0x02E8, 0x02E8, 0x01, 0x08)
                IRQNoFlags () { 3 }
            })
        }
    }
}
