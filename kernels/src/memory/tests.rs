use super::*;

fn view(offset: usize, len: usize) -> View {
    View { space: Space::Arena, offset, len }
}

#[test]
fn overlaps_are_refused_and_aliases_kept_apart() {
    let none = view(0, 0);
    assert!(Access::new(vec![view(0, 64)], vec![view(0, 64)], none, &[]).is_err());
    assert!(Access::new(vec![view(0, 64)], vec![view(0, 128)], none, &[(0, 0)]).is_err());
    assert!(Access::new(vec![view(0, 64)], vec![view(64, 64), view(64, 64)], none, &[]).is_err());
    assert!(Access::new(vec![view(0, 64)], vec![view(64, 64)], view(64, 64), &[]).is_err());
    assert!(Access::new(vec![view(0, 64), view(0, 64)], vec![view(0, 64)], none, &[(0, 0)]).is_err());
    let a = Access::new(vec![view(0, 64), view(64, 64)], vec![view(0, 64)], none, &[(0, 0)]).unwrap();
    let mut arena = Buffer::zeroed(128).unwrap();
    let mut memory = Memory::shared(&mut arena, &[]);
    let mut io = memory.io(&a);
    assert!(io.input::<f32>(0).is_err() && io.in_place(0, 0));
    assert_eq!(io.input::<f32>(1).unwrap().len(), 16);
    io.output::<f32>(0).unwrap()[3] = 5.0;
    assert!(io.output::<f32>(0).is_err() && io.input::<f32>(7).is_err());
}

#[test]
fn shared_slots_cannot_be_written_and_bounds_are_checked() {
    let slot = View { space: Space::Slot(0), offset: 0, len: 64 };
    let write = Access::new(vec![], vec![slot], view(0, 0), &[]).unwrap();
    assert!(write.writes_slots());
    let (mut arena, mut slots) = (Buffer::zeroed(64).unwrap(), vec![Buffer::zeroed(64).unwrap()]);
    assert!(Memory::shared(&mut arena, &slots).io(&write).output::<u8>(0).is_err());
    assert!(Memory::exclusive(&mut arena, &mut slots).io(&write).output::<u8>(0).is_ok());
    let far = Access::new(vec![view(64, 64)], vec![], view(0, 0), &[]).unwrap();
    assert!(Memory::shared(&mut arena, &slots).io(&far).input::<u8>(0).is_err());
}
